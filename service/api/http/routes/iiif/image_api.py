"""Serve results as IIIF images: Image API 3.0 at level 0, from the tiles that Deep Zoom has."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse, Response

from service.api.http import links
from service.api.http.artifact_responses import ANY_ORIGIN, artifact_headers, artifact_response
from service.api.http.dependencies import GenerationId, PicturesDep, UseCasesDep
from service.api.http.headers import matches_etag
from service.api.http.openapi import problem_responses
from service.application.generations.query import Query
from service.application.pictures.iiif import (
    CONTEXT,
    LEVEL,
    TILE_EXTENSIONS,
    image_information,
    is_everything,
    tile_part,
)
from service.application.ports import ObjectInfo
from service.domain.artifacts import EXTENSIONS, MEDIA_TYPES, OutputFormat
from service.domain.errors import ArtifactNotFound
from service.storage.encode import convert

router = APIRouter(prefix=f"{links.IIIF}/{{generation_id}}", tags=["iiif"])

_LD_JSON = "application/ld+json"
_IMAGE_HEADERS = {"link": f'<{LEVEL}>;rel="profile"', **ANY_ORIGIN}
_INFO_HEADERS = {"cache-control": "no-cache", "vary": "accept", **ANY_ORIGIN}

#: The full picture is converted in strips; only WebP needs all of it in memory, 48 MB of this many.
_MOST_WEBP_PIXELS = 4096 * 4096

_Box = tuple[int, int, int, int]

_FORMATS: dict[str, OutputFormat] = {"jpg": "jpeg", "png": "png", "webp": "webp"}


@router.get(
    "", status_code=303, response_class=Response, responses=problem_responses(404, 422, 503)
)
def get_base(generation_id: GenerationId, use_cases: UseCasesDep) -> Response:
    """Go on to the information document."""
    use_cases.query.generation(generation_id)
    return RedirectResponse(links.iiif_info(generation_id), 303, headers=ANY_ORIGIN)


@router.get(
    "/info.json",
    response_class=Response,
    responses={
        200: {
            "description": "Image information.",
            "content": {_LD_JSON: {}, "application/json": {}},
        },
        **problem_responses(404, 422, 503),
    },
)
def get_information(
    generation_id: GenerationId,
    request: Request,
    use_cases: UseCasesDep,
    accept: Annotated[str, Header()] = "",
) -> Response:
    """Describe the picture to IIIF viewers, from the moment a worker begins."""
    uri = links.base(request) + links.iiif(generation_id)
    document = image_information(use_cases.query.tiling(generation_id), uri)
    if _LD_JSON in accept:
        media_type = f'{_LD_JSON};profile="{CONTEXT}"'
        return JSONResponse(document, headers=_INFO_HEADERS, media_type=media_type)
    link = f'<{CONTEXT}>;rel="http://www.w3.org/ns/json-ld#context";type="{_LD_JSON}"'
    return JSONResponse(document, headers={**_INFO_HEADERS, "link": link})


@router.head("/{region}/{size}/{rotation}/{quality}.{extension}", include_in_schema=False)
@router.get(
    "/{region}/{size}/{rotation}/{quality}.{extension}",
    response_class=Response,
    responses={
        200: {"description": "The bytes.", "content": {"image/*": {}}},
        304: {"description": "If-None-Match names the current entity tag."},
        **problem_responses(404, 422, 503),
    },
)
async def get_region(
    *,
    generation_id: GenerationId,
    region: Annotated[str, Path(description="`full`, or x,y,w,h of one tile.")],
    size: Annotated[str, Path(description="`max`, or the w,h that the tile is stored at.")],
    rotation: Annotated[str, Path(description="0.")],
    quality: Annotated[str, Path(description="`default`.")],
    extension: Annotated[str, Path(description="jpg, png or webp.")],
    request: Request,
    use_cases: UseCasesDep,
    pictures: PicturesDep,
) -> Response:
    """Fetch a tile, a small size of the whole, or the full picture; 404 until it is stored."""
    known = (rotation, quality) == ("0", "default") and extension in TILE_EXTENSIONS
    asked = (region, size) if known else ("", "")
    find = partial(_find, use_cases.query, generation_id, *asked, extension)
    if (found := await run_in_threadpool(find)) is None:
        status = (await run_in_threadpool(use_cases.query.generation, generation_id)).status
        wanted = f"IIIF image {region}/{size}/{rotation}/{quality}.{extension} at level 0"
        raise ArtifactNotFound(generation_id, wanted, status)
    info, box = found
    picture_format = _FORMATS[extension]
    if box is None and info.media_type == MEDIA_TYPES[picture_format]:
        return artifact_response(request, use_cases.query, info, _IMAGE_HEADERS)
    headers: dict[str, Any] = artifact_headers(info, f"-iiif-{extension}") | _IMAGE_HEADERS
    del headers["accept-ranges"]
    if matches_etag(request.headers.get("if-none-match"), headers["etag"]):
        return Response(status_code=304, headers=headers)
    data = await pictures.made(
        use_cases.tenant,
        (info.key, info.etag, extension, box),
        lambda: convert(use_cases.query.read(info), picture_format, box),
    )
    return Response(data, headers=headers, media_type=MEDIA_TYPES[picture_format])


def _find(
    query: Query, generation_id: str, region: str, size: str, extension: str
) -> tuple[ObjectInfo, _Box | None] | None:
    """The stored object that shows a region, and which part of it does; None when none can."""
    tiling = query.tiling(generation_id)
    if part := tile_part(tiling, region, size):
        at = (part.level, part.column, part.row)
        info = query.tile(generation_id, *at, EXTENSIONS[tiling.format])
        box = None if part.whole else (part.left, part.top, part.width, part.height)
        return info, box
    held = extension != "webp" or tiling.width * tiling.height <= _MOST_WEBP_PIXELS
    if is_everything(tiling, region, size) and held:
        return query.image(generation_id), None
    return None
