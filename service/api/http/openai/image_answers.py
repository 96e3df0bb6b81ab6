"""Finished pictures as the OpenAI Images API answers with them, at once or event by event."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, StreamingResponse

from service.api.http import links
from service.api.http.errors.image_errors import streamed_error
from service.api.http.openai.embedding import Piece, Reader, embedded, length, written
from service.api.http.views.image_schemas import (
    Image,
    ImageEvent,
    ImageRequest,
    ImagesResponse,
    Usage,
    size_text,
    unix_time,
)
from service.application.generations.query import Query
from service.application.ports import ObjectInfo
from service.domain.errors import ServiceError
from service.domain.generations.events import Event, Previewed
from service.domain.generations.generation import Generation

#: How long a presigned URL in an answer is good for: as long as OpenAI's own.
_URL_SECONDS = 3600


def url_answer(
    http: Request, query: Query, request: ImageRequest, done: Sequence[Generation]
) -> Response:
    """The answer that says where the pictures are."""
    base = links.base(http)
    images = [
        Image(
            url=query.presign(query.image(each.id), _URL_SECONDS) or base + links.image(each.id),
            generation_id=each.id,
            seed=each.request.seed,
        )
        for each in done
    ]
    document = _response(request, done[0], images)
    return JSONResponse(document.model_dump(mode="json", exclude_none=True))


def picture_answer(
    query: Query, read: Reader, request: ImageRequest, done: Sequence[Generation]
) -> Response:
    """The answer that holds the pictures."""
    head = _response(request, done[0], ()).model_dump_json(exclude={"data"}, exclude_none=True)
    pieces: list[Piece] = [head.removesuffix("}").encode() + b',"data":[']
    for index, each in enumerate(done):
        image = Image(generation_id=each.id, seed=each.request.seed)
        pieces += [b"," if index else b"", *embedded(image, query.image(each.id))]
    pieces.append(b"]}")
    headers = {"content-length": str(length(pieces)), "cache-control": "no-store"}
    return StreamingResponse(written(read, pieces), 200, headers, "application/json")


def streamed(
    query: Query,
    read: Reader,
    request: ImageRequest,
    generation: Generation,
    events: AsyncGenerator[Event | None],
) -> Response:
    """The answer that shows the picture as it is made."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    body = _stream(query, read, request, generation, events)
    return StreamingResponse(body, headers=headers, media_type="text/event-stream")


async def _stream(
    query: Query,
    read: Reader,
    request: ImageRequest,
    generation: Generation,
    events: AsyncGenerator[Event | None],
) -> AsyncIterator[bytes]:
    sent, wanted = 0, request.partial_images or 0
    try:
        async with aclosing(events):
            async for event in events:
                if event is None:
                    yield b": keep-alive\n\n"
                elif isinstance(event, Previewed) and _due(event, generation, sent, wanted):
                    preview = await run_in_threadpool(query.preview, generation.id, event.step)
                    pieces = _preview_event(request, generation, sent, preview)
                    async for part in written(read, pieces):
                        yield part
                    sent += 1
        picture = await run_in_threadpool(query.image, generation.id)
        async for part in written(read, _final_event(request, generation, picture)):
            yield part
    except ServiceError as error:
        yield f"event: error\ndata: {streamed_error(error).model_dump_json()}\n\n".encode()


def _due(preview: Previewed, generation: Generation, sent: int, wanted: int) -> bool:
    """Whether a preview is due, so that `wanted` of them are spread evenly over the steps."""
    steps = generation.request.num_inference_steps
    return sent < wanted and preview.step >= steps * (sent + 1) // (wanted + 1)


def _preview_event(
    request: ImageRequest, generation: Generation, index: int, preview: ObjectInfo
) -> list[Piece]:
    event = ImageEvent(
        type=request.partial_event,
        created_at=unix_time(datetime.now(UTC)),
        size=size_text(generation),
        quality=request.answered_quality,
        output_format="jpeg",
        generation_id=generation.id,
        partial_image_index=index,
    )
    return _event(event.type, embedded(event, preview))


def _final_event(request: ImageRequest, generation: Generation, picture: ObjectInfo) -> list[Piece]:
    event = ImageEvent(
        type=request.completed_event,
        created_at=unix_time(datetime.now(UTC)),
        size=size_text(generation),
        quality=request.answered_quality,
        output_format=generation.request.output_format,
        generation_id=generation.id,
        usage=Usage(),
    )
    return _event(event.type, embedded(event, picture))


def _event(name: str, data: Sequence[Piece]) -> list[Piece]:
    return [f"event: {name}\ndata: ".encode(), *data, b"\n\n"]


def _response(request: ImageRequest, first: Generation, images: Sequence[Image]) -> ImagesResponse:
    return ImagesResponse(
        created=unix_time(first.created_at),
        output_format=first.request.output_format,
        quality=request.answered_quality,
        size=size_text(first),
        data=images,
    )
