"""Read back what a picture says of how it was made."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.api.http import links
from service.api.http.dependencies import UseCasesDep
from service.api.http.edge.forms import file_of, is_form, read_form
from service.api.http.openapi import problem_responses
from service.application.requests.recipes import recipe_in
from service.domain.errors import FieldViolation, InvalidRequest
from service.storage.metadata import read_text

router = APIRouter(prefix=links.RECIPES, tags=["recipes"])

_FIELD = "file"
_BINARY = {"type": "string", "format": "binary"}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "required": [_FIELD], "properties": {_FIELD: _BINARY}}
        },
        "image/png": {"schema": _BINARY},
    },
}


class Recipe(BaseModel):
    """What a picture says of how it was made."""

    request: dict[str, Any] = Field(
        description="Fields to send to `POST /v1/generations` for the same picture; the model, "
        "and pictures that it started from, must be known to the service."
    )


@router.post(
    "", openapi_extra={"requestBody": _BODY}, responses=problem_responses(400, 413, 422, 503)
)
async def read_recipe(http: Request, use_cases: UseCasesDep) -> Recipe:  # noqa: ARG001
    """Read the recipe in a PNG: this service's own, or the `parameters` of A1111 and others."""
    if is_form(http):
        async with read_form(http, files=1) as form:
            data = await file_of(form, _FIELD)
    else:
        data = await http.body()
    try:
        fields = recipe_in(read_text(data))
    except ValueError as error:
        raise _refused(len(data), str(error)) from None
    if fields is None:
        raise _refused(len(data), "it carries no recipe; it may have been stored anew without")
    return Recipe(request=fields)


def _refused(size: int, rule: str) -> InvalidRequest:
    return InvalidRequest([FieldViolation(_FIELD, f"a file of {size} bytes", rule)])
