"""Follow a generation as server-sent events."""

import random
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request
from fastapi.security import HTTPAuthorizationCredentials
from fastapi.sse import EventSourceResponse, ServerSentEvent

from service.api.http import links
from service.api.http.dependencies import GenerationId, StoppingDep, UseCasesDep
from service.api.http.edge.access import bearer, check_may_write
from service.api.http.headers import leaving_cancels
from service.api.http.openapi import problem_responses
from service.api.http.views.event_views import EventView, event_view
from service.api.streams import until
from service.application.generations.watch import event_position
from service.domain.errors import Unavailable
from service.domain.generations.events import StoredEvent

router = APIRouter(prefix=links.GENERATIONS, tags=["generations"])

#: How long a browser waits before it connects again after the stream broke off, from and to: the
#: streams of a process that stops do not all come back in one moment.
_RECONNECT_MILLISECONDS = (1000, 3000)

_Stream = AsyncIterator[StoredEvent | None]


class _Ending:
    """How a stream ends: by what the client does, unless it says otherwise."""

    by_itself = False


def _leaving_cancels(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    prefer: Annotated[
        str | None, Header(description="`cancel-on-disconnect` does as the parameter does.")
    ] = None,
    *,
    cancel_on_disconnect: Annotated[
        bool,
        Query(
            description="Cancel the generation when the connection ends before the stream does; "
            "takes a key that may write."
        ),
    ] = False,
) -> bool:
    """Whether the client asks for that, and may."""
    if not (cancel_on_disconnect or leaving_cancels(prefer)):
        return False
    check_may_write(request, credentials)
    return True


async def _until_the_client_leaves(
    generation_id: GenerationId,
    use_cases: UseCasesDep,
    stopping: StoppingDep,
    cancels: Annotated[bool, Depends(_leaving_cancels)],
) -> AsyncIterator[_Ending]:
    """Cancels the generation after a response that the client broke off, where it asked for it."""
    ending = _Ending()
    yield ending
    if cancels and not (ending.by_itself or stopping.is_set()):
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(use_cases.cancel, generation_id)


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
    ending: Annotated[_Ending, Depends(_until_the_client_leaves)],
    stream: Annotated[_Stream, Depends(_open_stream)],
    stopping: StoppingDep,
) -> AsyncIterable[ServerSentEvent]:
    """Stream events from the first, or after Last-Event-ID, and end after the final one."""
    yield ServerSentEvent(retry=random.randint(*_RECONNECT_MILLISECONDS))
    try:
        async with aclosing(until(stopping, stream)) as events:
            async for stored in events:
                yield _sent(generation_id, stored)
        ending.by_itself = True
    except Unavailable as error:
        ending.by_itself = True
        yield ServerSentEvent(comment=f"interrupted: {error.public_detail}")


def _sent(generation_id: str, stored: StoredEvent | None) -> ServerSentEvent:
    if stored is None:
        return ServerSentEvent(comment="keep-alive")
    return stored.made("server-sent", partial(_written, generation_id, stored))


def _written(generation_id: str, stored: StoredEvent) -> ServerSentEvent:
    view = event_view(generation_id, stored.event)
    return ServerSentEvent(raw_data=view.model_dump_json(), event=view.type, id=stored.id)
