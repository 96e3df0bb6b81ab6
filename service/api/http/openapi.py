"""The OpenAPI document: the schemas that FastAPI does not find by itself."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.http.image_schemas import ImageEvent
from service.api.http.problems import PROBLEM_TYPES, Problem

_REFERENCE = {"$ref": "#/components/schemas/Problem"}
_VALIDATION_ERROR = "HTTPValidationError"
_DEFAULT_SCHEMAS = (_VALIDATION_ERROR, "ValidationError")


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: which problems it may answer with."""
    return {status: _response(status) for status in statuses}


def install_openapi(app: FastAPI) -> None:
    """Let `app.openapi()` describe problem documents in place of FastAPI's own error schema."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
                license_info=app.license_info,
            )
            app.openapi_schema = _with_problems(document)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _response(status: int) -> dict[str, Any]:
    kinds = [kind for kind in PROBLEM_TYPES if kind.status == status]
    description = "; ".join(f"{kind.title} (`{kind.uri}`)" for kind in kinds)
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": _REFERENCE}},
    }


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document["components"]["schemas"]
    for name in _DEFAULT_SCHEMAS:
        schemas.pop(name, None)
    for methods in document["paths"].values():
        for operation in methods.values():
            if _VALIDATION_ERROR in str(operation["responses"].get("422")):
                del operation["responses"]["422"]  # this route answers broken rules another way
    for model in (Problem, ImageEvent):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs"))
        schemas[model.__name__] = schema
    return document
