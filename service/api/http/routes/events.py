"""Follow a generation as server-sent events."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException
from fastapi.sse import EventSourceResponse, ServerSentEvent

from service.api.http import links
from service.api.http.dependencies import GenerationId, StoppingDep, UseCasesDep
from service.api.http.event_views import EventView, event_view
from service.api.http.openapi import problem_responses
from service.api.streams import until
from service.application.watch import event_position
from service.domain.errors import Unavailable
from service.domain.events import StoredEvent

router = APIRouter(prefix=links.GENERATIONS, tags=["generations"])

#: How long a browser waits before it connects again after the stream broke off.
_RECONNECT_MILLISECONDS = 2000

_Stream = AsyncIterator[StoredEvent | None]


async def _open_stream(
    generation_id: GenerationId,
    use_cases: UseCasesDep,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", description="Continue after the event with this id."),
    ] = None,
) -> _Stream:
    """Whatever can go wrong goes wrong here, while the status code can still say so."""
    after = event_position(last_event_id, "Last-Event-ID")
    if after is not None and await use_cases.watch.seen_all(generation_id, after):
        raise HTTPException(204)
    return await use_cases.watch(generation_id, after)


@router.get(
    "/{generation_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "One event each: `id` to resume after, `event` the type, `data` JSON.",
            "model": EventView,
        },
        204: {"description": "Last-Event-ID is the final event; there is no need to reconnect."},
        **problem_responses(404, 422, 503),
    },
)
async def stream_events(
    generation_id: GenerationId,
    stream: Annotated[_Stream, Depends(_open_stream)],
    stopping: StoppingDep,
) -> AsyncIterable[ServerSentEvent]:
    """Stream events from the first, or after Last-Event-ID, and end after the final one."""
    yield ServerSentEvent(retry=_RECONNECT_MILLISECONDS)
    try:
        async with aclosing(until(stopping, stream)) as events:
            async for stored in events:
                yield _sent(generation_id, stored)
    except Unavailable as error:
        yield ServerSentEvent(comment=f"interrupted: {error.public_detail}")


def _sent(generation_id: str, stored: StoredEvent | None) -> ServerSentEvent:
    if stored is None:
        return ServerSentEvent(comment="keep-alive")
    view = event_view(generation_id, stored.event)
    return ServerSentEvent(data=view, event=view.type, id=stored.id)
