"""Follow a generation's events, from the first or after the last one seen."""

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import anyio.to_thread

from service.application.ports import EventLog, Records
from service.domain.errors import FieldViolation, GenerationNotFound, InvalidRequest
from service.domain.generations.events import (
    Cancelled,
    Event,
    Failed,
    StoredEvent,
    Succeeded,
    status_after,
)
from service.domain.generations.generation import Generation

#: Proxies commonly cut connections that are silent for 30 to 60 s; half of that is safe.
KEEP_ALIVE_SECONDS = 15.0

#: Ids of Redis Streams: milliseconds and a counter, each an unsigned 64-bit integer.
_POSITION = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_POSITION_LIMIT = 2**64


class WatchGeneration:
    """The stream behind server-sent events and gRPC watching alike."""

    def __init__(
        self, records: Records, events: EventLog, keep_alive_seconds: float = KEEP_ALIVE_SECONDS
    ) -> None:
        self._records = records
        self._events = events
        self._keep_alive_seconds = keep_alive_seconds

    async def __call__(
        self, generation_id: str, after: str | None = None
    ) -> AsyncIterator[StoredEvent | None]:
        """Open the stream; it ends after the final event. None means: nothing new, still alive.

        Raises:
            GenerationNotFound: the id is unknown (raised here, before the first event).
        """
        await anyio.to_thread.run_sync(self._records.get, generation_id)
        source = self._events.follow(generation_id, after, self._keep_alive_seconds)
        return self._to_the_end(generation_id, after, source)

    async def _to_the_end(
        self, generation_id: str, after: str | None, source: AsyncIterator[StoredEvent | None]
    ) -> AsyncGenerator[StoredEvent | None]:
        """The events, and the final one from the record when the stream has ended without it."""
        told = after
        try:
            async for stored in source:
                yield stored
                if stored is not None:
                    told = stored.id
                    if status_after(stored.event).final:
                        return
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()
        with contextlib.suppress(GenerationNotFound):
            generation = await anyio.to_thread.run_sync(self._records.get, generation_id)
            final = _final_event(generation)
            if final is not None and not _comes_after(told, final):
                yield final

    async def seen_all(self, generation_id: str, after: str) -> bool:
        """Whether `after` is the last event there will ever be.

        Raises:
            GenerationNotFound: the id is unknown.
        """

        def look() -> bool:
            final = _final_event(self._records.get(generation_id))
            if final is None or self._events.read(generation_id, after, 1):
                return False
            return _comes_after(after, final) or bool(self._events.read(generation_id, None, 1))

        return await anyio.to_thread.run_sync(look)


def _final_event(generation: Generation) -> StoredEvent | None:
    """How a generation ended, as its record tells after its stream is gone; None if it has not.

    The id is the time of the end: that of the event itself was a moment later.
    """
    if generation.finished_at is None or not generation.status.final:
        return None
    common: dict[str, Any] = {"attempt": generation.attempt, "at": generation.finished_at}
    event: Event = Cancelled(**common)
    if generation.result is not None:
        event = Succeeded(**common, manifest=generation.result)
    elif generation.error is not None:
        event = Failed(**common, error=generation.error)
    return StoredEvent(f"{int(generation.finished_at.timestamp() * 1000)}-0", event)


def _comes_after(position: str | None, event: StoredEvent) -> bool:
    """Whether a position is that of an event, as its record tells it, or later."""
    return position is not None and int(position.split("-")[0]) >= int(event.id.split("-")[0])


def event_position(text: str | None, field: str) -> str | None:
    """Check the event id a client resumes after; empty means from the first event.

    Raises:
        InvalidRequest: naming `field`, when `text` is not the id of an event.
    """
    if not text:
        return None
    if _POSITION.fullmatch(text) and all(int(n) < _POSITION_LIMIT for n in text.split("-")):
        return text
    raise InvalidRequest(
        [FieldViolation(field, repr(text[:80]), "give the id of an event of this generation")]
    )
