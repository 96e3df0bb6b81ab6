"""What a stream holds after a position."""

from dataclasses import dataclass
from typing import Any

import redis.asyncio

from service.domain.generations.events import StoredEvent
from service.events.codec import FINAL_TYPES, decode

#: Events fetched at a time while following.
BATCH = 200

#: A stream entry as redis-py returns it: its id and its fields.
Entry = tuple[str, dict[str, str]]


@dataclass(frozen=True)
class Reading:
    """One look at the stream of a generation.

    Attributes:
        events: what came after the position looked from, up to `BATCH` entries.
        position: the last entry seen, to look on from.
        more: whether there may be more already.
        ended: whether nothing will come after this, or the stream has expired.
    """

    events: tuple[StoredEvent, ...]
    position: str
    more: bool
    ended: bool


async def read_after(client: redis.asyncio.Redis, key: str, position: str) -> Reading:
    """What comes after `position` in the stream `key`, at one moment."""
    async with client.pipeline(transaction=True) as pipe:
        pipe.xread({key: position}, count=BATCH)
        pipe.xrevrange(key, count=1)
        reply, tail = await pipe.execute()
    found = entries(reply)
    more = len(found) == BATCH
    return Reading(
        events=tuple(events(found)),
        position=found[-1][0] if found else position,
        more=more,
        ended=not more and (not tail or tail[0][1]["type"] in FINAL_TYPES),
    )


def entries(reply: Any) -> list[Entry]:
    """The entries in an XREAD reply for one stream; empty when there was nothing new."""
    if not reply:
        return []
    streams = reply.values() if isinstance(reply, dict) else [found for _, found in reply]
    return [(identifier, fields) for found in streams for identifier, fields in found]


def events(found: list[Entry]) -> list[StoredEvent]:
    """The events in stream entries; those of a newer service are passed over."""
    decoded = ((identifier, decode(fields)) for identifier, fields in found)
    return [StoredEvent(identifier, event) for identifier, event in decoded if event is not None]
