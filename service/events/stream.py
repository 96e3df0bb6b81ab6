"""One Redis Stream per generation: what happened to it, in order, from any position."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio

from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.events import StoredEvent
from service.events.bell import Towers
from service.events.codec import FINAL_TYPES, decode
from service.events.connection import connect, unavailable_when_down

#: Events fetched at a time while following.
BATCH = 200

#: A stream entry as redis-py returns it: its id and its fields.
Entry = tuple[str, dict[str, str]]

_START = "0-0"
_ID = re.compile(r"\d{1,20}-\d{1,20}")


def events_key(generation_id: str) -> str:
    """The stream of one generation."""
    return f"hidiffusion:events:{generation_id}"


class RedisEventLog:
    """The `EventLog` port. Writing is part of `RedisRecords`, in one step with the record.

    A follower costs no connection of its own: followers of one event loop share a few.
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
        return _events(_entries(reply))

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
        key = events_key(generation_id)
        with unavailable_when_down():
            async with self._towers.bell(generation_id) as (tower, bell):
                while True:
                    bell.clear()
                    entries, last = await _look(tower.client, key, position)
                    for event in _events(entries):
                        yield event
                    if entries:
                        position = entries[-1][0]
                        continue
                    if last is None or last in FINAL_TYPES:
                        return
                    try:
                        await asyncio.wait_for(bell.wait(), idle_seconds)
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


def _entries(reply: Any) -> list[Entry]:
    """The entries in an XREAD reply for one stream; empty when there was nothing new."""
    if not reply:
        return []
    streams = reply.values() if isinstance(reply, dict) else [found for _, found in reply]
    return [(identifier, fields) for found in streams for identifier, fields in found]


def _events(entries: list[Entry]) -> list[StoredEvent]:
    decoded = ((identifier, decode(fields)) for identifier, fields in entries)
    return [StoredEvent(identifier, event) for identifier, event in decoded if event is not None]


async def _look(
    client: redis.asyncio.Redis, key: str, position: str
) -> tuple[list[Entry], str | None]:
    """What comes after `position`, and the type of the last event there is, at one moment."""
    async with client.pipeline(transaction=True) as pipe:
        pipe.xread({key: position}, count=BATCH)
        pipe.xrevrange(key, count=1)
        reply, tail = await pipe.execute()
    return _entries(reply), tail[0][1]["type"] if tail else None
