"""Serve results as IIIF manifests (Presentation API 3.0), for viewers that show several."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from service.api.http import links
from service.api.http.artifact_responses import ANY_ORIGIN
from service.api.http.dependencies import GenerationId, UseCasesDep
from service.api.http.openapi import problem_responses
from service.application.pictures.manifests import CONTEXT, Shown, manifest
from service.application.use_cases import UseCases

router = APIRouter(prefix=links.IIIF, tags=["iiif"])

MAX_PICTURES = 100

_MEDIA_TYPE = f'application/ld+json;profile="{CONTEXT}"'
_HEADERS = {"cache-control": "no-cache", **ANY_ORIGIN}
_RESPONSES = {
    200: {"description": "The manifest.", "content": {"application/ld+json": {}}},
    **problem_responses(404, 422, 503),
}


@router.get("/manifest.json", response_class=Response, responses=_RESPONSES)
def get_manifest_of_several(
    *,
    ids: Annotated[
        list[str],
        Query(
            alias="id",
            min_length=1,
            max_length=MAX_PICTURES,
            description="Identifiers of the generations, in order: `id=ONE&id=OTHER`.",
        ),
    ],
    request: Request,
    use_cases: UseCasesDep,
) -> Response:
    """Describe several pictures to IIIF viewers, from the moment workers begin them."""
    return _answer(request, use_cases, ids, f"{links.iiif_manifest()}?{request.url.query}")


@router.get("/{generation_id}/manifest.json", response_class=Response, responses=_RESPONSES)
def get_manifest(generation_id: GenerationId, request: Request, use_cases: UseCasesDep) -> Response:
    """Describe the picture to IIIF viewers, from the moment a worker begins."""
    return _answer(request, use_cases, [generation_id], links.iiif_manifest(generation_id))


def _answer(request: Request, use_cases: UseCases, ids: list[str], path: str) -> Response:
    base = links.base(request)
    query = use_cases.query
    shown = [Shown(query.generation(i), query.tiling(i), base + links.iiif(i)) for i in ids]
    return JSONResponse(manifest(shown, base + path), headers=_HEADERS, media_type=_MEDIA_TYPE)
