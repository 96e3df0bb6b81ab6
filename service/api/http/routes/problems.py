"""Serve the documentation of each problem type at its own address."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from fastapi.responses import PlainTextResponse

from service.api.http import links
from service.api.http.errors.problems import PROBLEM_TYPES
from service.api.http.openapi import problem_responses

router = APIRouter(prefix=links.PROBLEMS, tags=["operations"])

_BY_SLUG = {kind.slug: kind for kind in PROBLEM_TYPES}


@router.get("/{slug}", response_class=PlainTextResponse, responses=problem_responses(404, 422))
async def get_problem(
    slug: Annotated[str, Path(examples=["invalid-request"])],
) -> PlainTextResponse:
    """Explain one problem type, in words."""
    kind = _BY_SLUG.get(slug)
    if kind is None:
        raise HTTPException(404)
    text = f"{kind.title}\n\nStatus: {kind.status}\nReason: {kind.reason}\n\n{kind.remedy}\n"
    return PlainTextResponse(text)
