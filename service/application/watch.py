"""Follow a generation's events, from the first or after the last one seen."""

import re
from collections.abc import AsyncIterator

import anyio.to_thread

from service.application.ports import EventLog, Records
from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.events import StoredEvent

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
        return self._events.follow(generation_id, after, self._keep_alive_seconds)

    async def seen_all(self, generation_id: str, after: str) -> bool:
        """Whether `after` is the last event there will ever be.

        Raises:
            GenerationNotFound: the id is unknown.
        """

        def look() -> bool:
            if not self._records.get(generation_id).status.final:
                return False
            return not self._events.read(generation_id, after, 1)

        return await anyio.to_thread.run_sync(look)


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
