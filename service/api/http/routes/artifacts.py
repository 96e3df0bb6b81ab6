"""Serve what a generation left: the picture, its thumbnail, previews and tiles."""

from typing import Annotated
from xml.sax.saxutils import quoteattr

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse, Response

from service.api.http import links
from service.api.http.artifact_responses import ANY_ORIGIN, PICTURE_RESPONSES, artifact_response
from service.api.http.dependencies import GenerationId, UseCasesDep
from service.api.http.openapi import problem_responses
from service.application.query import Tiling
from service.domain.artifacts import EXTENSIONS

router = APIRouter(prefix=f"{links.GENERATIONS}/{{generation_id}}", tags=["artifacts"])

#: Time enough to begin a download from a presigned URL.
_PRESIGNED_SECONDS = 300

_Number = Annotated[int, Path(ge=0, le=2**31)]


@router.head("/image", include_in_schema=False)
@router.get(
    "/image",
    response_class=Response,
    responses=PICTURE_RESPONSES
    | {307: {"description": "The store serves it itself, at Location."}},
)
def get_image(generation_id: GenerationId, request: Request, use_cases: UseCasesDep) -> Response:
    """Fetch the full-size picture; 404 until the generation has succeeded."""
    info = use_cases.query.image(generation_id)
    # A presigned URL is good for GET alone.
    if request.method == "GET":
        direct = use_cases.query.presign(info, _PRESIGNED_SECONDS)
        if direct is not None:
            return RedirectResponse(direct, 307, headers={"cache-control": "no-store"})
    return artifact_response(request, use_cases.query, info)


@router.head("/thumbnail", include_in_schema=False)
@router.get("/thumbnail", response_class=Response, responses=PICTURE_RESPONSES)
def get_thumbnail(
    generation_id: GenerationId, request: Request, use_cases: UseCasesDep
) -> Response:
    """Fetch a small picture of the whole; 404 until the generation has succeeded."""
    return artifact_response(request, use_cases.query, use_cases.query.thumbnail(generation_id))


@router.head("/previews/{step}", include_in_schema=False)
@router.get("/previews/{step}", response_class=Response, responses=PICTURE_RESPONSES)
def get_preview(
    generation_id: GenerationId, step: _Number, request: Request, use_cases: UseCasesDep
) -> Response:
    """Fetch the small picture of the latents that a `preview` event told of."""
    info = use_cases.query.preview(generation_id, step)
    return artifact_response(request, use_cases.query, info)


@router.get(
    "/tiles.dzi",
    response_class=Response,
    responses={
        200: {"description": "Deep Zoom descriptor.", "content": {"application/xml": {}}},
        **problem_responses(404, 422, 503),
    },
)
def get_tiles_descriptor(generation_id: GenerationId, use_cases: UseCasesDep) -> Response:
    """Describe the Deep Zoom pyramid, from the moment a worker begins."""
    tiling = use_cases.query.tiling(generation_id)
    headers = {"cache-control": "no-cache", **ANY_ORIGIN}
    return Response(_deep_zoom(tiling), media_type="application/xml", headers=headers)


@router.head("/tiles_files/{level}/{column}_{row}.{extension}", include_in_schema=False)
@router.get(
    "/tiles_files/{level}/{column}_{row}.{extension}",
    response_class=Response,
    responses=PICTURE_RESPONSES,
)
def get_tile(
    *,
    generation_id: GenerationId,
    level: _Number,
    column: _Number,
    row: _Number,
    extension: Annotated[str, Path(pattern="^[a-z]+$", examples=["png"])],
    request: Request,
    use_cases: UseCasesDep,
) -> Response:
    """Fetch one tile; 404 until it is stored, unchanging once it is."""
    info = use_cases.query.tile(generation_id, level, column, row, extension)
    return artifact_response(request, use_cases.query, info, ANY_ORIGIN)


def _deep_zoom(tiling: Tiling) -> str:
    """The descriptor in the schema of 2008, which every viewer reads."""
    image = {
        "TileSize": tiling.tile_size,
        "Overlap": tiling.overlap,
        "Format": EXTENSIONS[tiling.format],
        "xmlns": "http://schemas.microsoft.com/deepzoom/2008",
    }
    attributes = " ".join(f"{name}={quoteattr(str(value))}" for name, value in image.items())
    size = f'<Size Width="{tiling.width}" Height="{tiling.height}"/>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Image {attributes}>{size}</Image>\n'
