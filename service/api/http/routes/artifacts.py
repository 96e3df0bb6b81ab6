"""Serve what a generation left: the picture, its thumbnail, previews and tiles."""

from collections.abc import Mapping
from typing import Annotated
from xml.sax.saxutils import quoteattr

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse, Response

from service.api.http import links
from service.api.http.artifact_responses import ANY_ORIGIN, PICTURE_RESPONSES, artifact_response
from service.api.http.dependencies import GenerationId, SettingsDep, UseCasesDep
from service.api.http.openapi import problem_responses
from service.application.generations.query import Query, Tiling
from service.application.ports import ObjectInfo
from service.domain.artifacts import EXTENSIONS
from service.settings import ApiSettings

router = APIRouter(prefix=f"{links.GENERATIONS}/{{generation_id}}", tags=["artifacts"])

#: Time enough to begin a download from a presigned URL.
_PRESIGNED_SECONDS = 300

#: How long a client may go by a redirection: less than its target is good for.
_REDIRECTED_SECONDS = 240

_REDIRECTED: dict[int | str, dict[str, str]] = {
    307: {"description": "The store serves it itself, at Location."}
}

_Number = Annotated[int, Path(ge=0, le=2**31)]


@router.head("/image", include_in_schema=False)
@router.get(
    "/image",
    response_class=Response,
    responses=PICTURE_RESPONSES | _REDIRECTED,
)
def get_image(generation_id: GenerationId, request: Request, use_cases: UseCasesDep) -> Response:
    """Fetch the full-size picture; 404 until the generation has succeeded."""
    info, uncached = use_cases.query.image(generation_id), {"cache-control": "no-store"}
    direct = _redirected(request, use_cases.query, info, uncached)
    return direct or artifact_response(request, use_cases.query, info)


@router.head("/thumbnail", include_in_schema=False)
@router.get("/thumbnail", response_class=Response, responses=PICTURE_RESPONSES | _REDIRECTED)
def get_thumbnail(
    generation_id: GenerationId, request: Request, use_cases: UseCasesDep, settings: SettingsDep
) -> Response:
    """Fetch a small picture of the whole; 404 until the generation has succeeded."""
    info = use_cases.query.thumbnail(generation_id)
    return _small(request, use_cases.query, info, settings)


@router.head("/previews/{step}", include_in_schema=False)
@router.get("/previews/{step}", response_class=Response, responses=PICTURE_RESPONSES | _REDIRECTED)
def get_preview(
    *,
    generation_id: GenerationId,
    step: _Number,
    request: Request,
    use_cases: UseCasesDep,
    settings: SettingsDep,
) -> Response:
    """Fetch the small picture of the latents that a `preview` event told of."""
    info = use_cases.query.preview(generation_id, step)
    return _small(request, use_cases.query, info, settings)


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
    responses=PICTURE_RESPONSES | _REDIRECTED,
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
    settings: SettingsDep,
) -> Response:
    """Fetch one tile; 404 until it is stored, unchanging once it is."""
    info = use_cases.query.tile(generation_id, level, column, row, extension)
    return _small(request, use_cases.query, info, settings, ANY_ORIGIN)


def _small(
    request: Request,
    query: Query,
    info: ObjectInfo,
    settings: ApiSettings,
    extra: Mapping[str, str] | None = None,
) -> Response:
    """A tile or the like: from here, or from the store where the settings say so."""
    direct = None
    if settings.redirect_tiles:
        cached = {"cache-control": f"private, max-age={_REDIRECTED_SECONDS}", **(extra or {})}
        direct = _redirected(request, query, info, cached)
    return direct or artifact_response(request, query, info, extra)


def _redirected(
    request: Request, query: Query, info: ObjectInfo, headers: Mapping[str, str]
) -> Response | None:
    """Where the store itself serves an object; None where it does not, or not this request."""
    if request.method != "GET":  # a presigned URL is good for GET alone
        return None
    direct = query.presign(info, _PRESIGNED_SECONDS)
    return None if direct is None else RedirectResponse(direct, 307, headers=headers)


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
