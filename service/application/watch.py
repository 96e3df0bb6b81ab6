"""Follow a generation's events, from the first or after the last one seen."""

from collections.abc import AsyncIterator

import anyio.to_thread

from service.application.ports import EventLog, Records
from service.domain.events import StoredEvent

#: Proxies commonly cut connections that are silent for 30 to 60 s; half of that is safe.
KEEP_ALIVE_SECONDS = 15.0


class WatchGeneration:
    """The stream behind server-sent events and gRPC watching alike."""

    def __init__(self, records: Records, events: EventLog) -> None:
        self._records = records
        self._events = events

    async def __call__(
        self,
        generation_id: str,
        after: str | None = None,
        idle_seconds: float = KEEP_ALIVE_SECONDS,
    ) -> AsyncIterator[StoredEvent | None]:
        """Open the stream; it ends after the final event. None means: nothing new, still alive.

        Raises:
            GenerationNotFound: the id is unknown (raised here, before the first event).
        """
        await anyio.to_thread.run_sync(self._records.get, generation_id)
        return self._events.follow(generation_id, after, idle_seconds)
