"""One Redis Stream per generation: what happened to it, in order, from any position."""

import asyncio
import re
from collections.abc import AsyncIterator

from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.generations.events import StoredEvent
from service.events.bell import Towers
from service.events.connection import connect, unavailable_when_down
from service.events.reading import entries, events

_START = "0-0"
_ID = re.compile(r"\d{1,20}-\d{1,20}")


def events_key(generation_id: str) -> str:
    """The stream of one generation."""
    return f"hidiffusion:events:{generation_id}"


class RedisEventLog:
    """The `EventLog` port. Writing is part of `RedisRecords`, in one step with the record.

    A follower costs no connection of its own: followers of one event loop share a few, and what
    they read.
    """

    def __init__(self, url: str) -> None:
        self._redis = connect(url)
        self._towers = Towers(url)

    def read(self, generation_id: str, after: str | None, limit: int) -> list[StoredEvent]:
        """Stored events after the id `after` (None: from the first).

        Raises:
            InvalidRequest: `after` is no event id.
        """
        position = _position(after)
        with unavailable_when_down():
            reply = self._redis.xread({events_key(generation_id): position}, count=limit)
        return events(entries(reply))

    def follow(
        self, generation_id: str, after: str | None, idle_seconds: float
    ) -> AsyncIterator[StoredEvent | None]:
        """Stored events, then new ones as they come, ending after a final event.

        It ends at once when `after` is the final event, or when the events have expired. Yields
        None when nothing has happened for `idle_seconds`.

        Raises:
            InvalidRequest: `after` is no event id (raised here, before the first event).
        """
        return self._follow(generation_id, _position(after), idle_seconds)

    async def _follow(
        self, generation_id: str, position: str, idle_seconds: float
    ) -> AsyncIterator[StoredEvent | None]:
        with unavailable_when_down():
            async with self._towers.bell(generation_id, events_key(generation_id)) as bell:
                while True:
                    reading, rung = await bell.look(position, idle_seconds)
                    for event in reading.events:
                        yield event
                    position = reading.position
                    if reading.ended:
                        return
                    if reading.more:
                        continue
                    try:
                        async with asyncio.timeout(idle_seconds):
                            await rung.wait()
                    except TimeoutError:
                        yield None


def _position(after: str | None) -> str:
    if after is None:
        return _START
    if not _ID.fullmatch(after):
        raise InvalidRequest(
            [FieldViolation("after", repr(after), "an event id such as '1700000000000-0'")]
        )
    return after
