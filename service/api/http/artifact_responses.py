"""Serve stored objects: entity tags, ranges, caching."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service.api.http.headers import (
    RangeNotSatisfiable,
    byte_range,
    http_date,
    matches_etag,
    range_still_valid,
)
from service.api.http.openapi import problem_responses
from service.api.picture_work import PictureWork
from service.application.generations.query import Query
from service.application.ports import ObjectInfo

#: What is stored never changes: keep it for a year, but not where others share it.
_IMMUTABLE = "private, max-age=31536000, immutable"

#: Viewers on other sites may show what a client gives them the address of.
ANY_ORIGIN = {"access-control-allow-origin": "*"}

_PICTURE = {"schema": {"type": "string", "format": "binary"}}

#: What is documented of an answer that is a stored picture.
PICTURE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes.", "content": {"image/*": _PICTURE}},
    206: {"description": "The range asked for.", "content": {"image/*": _PICTURE}},
    304: {"description": "If-None-Match names the current entity tag."},
    **problem_responses(404, 416, 422, 503),
}

#: Few round trips to the store, and little memory per download.
_CHUNK_BYTES = 4 * 1024 * 1024


def artifact_response(
    request: Request, query: Query, info: ObjectInfo, extra: Mapping[str, str] | None = None
) -> Response:
    """Answer GET or HEAD for a stored object: whole, in part, or not at all when known already.

    Args:
        request: of the client.
        query: reads the object.
        info: of the object.
        extra: headers to send besides.

    Raises:
        HTTPException: 416, when the range begins beyond the end.
    """
    headers = artifact_headers(info) | dict(extra or {})
    if matches_etag(request.headers.get("if-none-match"), headers["etag"]):
        return Response(status_code=304, headers=headers)
    part = _part(request, info, headers["etag"])
    start, end = part or (0, info.size)
    if part is not None:
        headers["content-range"] = f"bytes {start}-{end - 1}/{info.size}"
    headers["content-length"] = str(end - start)
    status = 200 if part is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=info.media_type)
    pictures = cast("PictureWork", request.app.state.pictures)
    chunks = _chunks(partial(pictures.read, query, info), start, end)
    return StreamingResponse(chunks, status, headers, info.media_type)


def artifact_headers(info: ObjectInfo, variant: str = "") -> dict[str, str]:
    """Headers of a stored object, or of a `variant` that is made from it and as unchanging."""
    return {
        "etag": '"' + info.etag.removeprefix("W/").strip('"') + variant + '"',
        "last-modified": http_date(info.modified),
        "accept-ranges": "bytes",
        "cache-control": _IMMUTABLE,
        "x-content-type-options": "nosniff",
    }


def _part(request: Request, info: ObjectInfo, etag: str) -> tuple[int, int] | None:
    wanted = request.headers.get("range")
    if not range_still_valid(request.headers.get("if-range"), etag, info.modified):
        return None
    try:
        return byte_range(wanted, info.size)
    except RangeNotSatisfiable:
        raise HTTPException(
            416,
            f"{wanted!r} begins beyond the artifact's {info.size} bytes",
            headers={"content-range": f"bytes */{info.size}"},
        ) from None


async def _chunks(
    read: Callable[[int, int], Awaitable[bytes]], start: int, end: int
) -> AsyncIterator[bytes]:
    for offset in range(start, end, _CHUNK_BYTES):
        yield await read(offset, min(offset + _CHUNK_BYTES, end))
