"""Records that this version of the service cannot read: told of, counted and kept.

They stay where they are. A version that can read them takes them from their queue as it takes any
other; the rest leave them alone. So a rolling upgrade and a rollback need nobody's help.
"""

import json
import logging
import time
from dataclasses import dataclass

from service.domain.errors import RecordUnreadable
from service.events.connection import TextClient, unavailable_when_down
from service.records.keys import QUARANTINE, record_key

_log = logging.getLogger(__name__)

#: Ids remembered as told of, so that each is logged and written once by a process.
_REMEMBERED = 10_000

#: Entries of one page.
_PAGE = 1000


@dataclass(frozen=True)
class Quarantined:
    """A record that somebody could not read.

    Attributes:
        id: of the generation.
        cause: what is wrong with it.
        since: Unix time at which it was first met.
    """

    id: str
    cause: str
    since: float


class Quarantine:
    """The list of records that cannot be read.

    Args:
        client: a client that answers in text.
    """

    def __init__(self, client: TextClient) -> None:
        self._redis = client
        self._told: dict[str, None] = {}

    def add(self, error: RecordUnreadable) -> None:
        """Put a record on the list, and tell of it once."""
        if error.generation_id in self._told:
            return
        _log.warning("%s; it is kept for a version that can read it", error)
        entry = {"cause": error.cause, "since": time.time()}
        with unavailable_when_down():
            self._redis.hsetnx(QUARANTINE, error.generation_id, json.dumps(entry))
        self._told[error.generation_id] = None
        while len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]

    def count(self) -> int:
        """How many there are."""
        with unavailable_when_down():
            return int(self._redis.hlen(QUARANTINE))

    def entries(self) -> list[Quarantined]:
        """All of them, the oldest first; those whose records are gone leave the list."""
        found, position = [], 0
        with unavailable_when_down():
            while True:
                position, page = self._redis.hscan(QUARANTINE, position, count=_PAGE)
                found += [Quarantined(name, **json.loads(text)) for name, text in page.items()]
                if not position:
                    break
            return sorted(self._kept(found), key=lambda one: (one.since, one.id))

    def remove(self, generation_id: str) -> None:
        """Take one off the list, because it can be read or is gone."""
        with unavailable_when_down():
            self._redis.hdel(QUARANTINE, generation_id)

    def _kept(self, found: list[Quarantined]) -> list[Quarantined]:
        with self._redis.pipeline(transaction=False) as pipe:
            for one in found:
                pipe.exists(record_key(one.id))
            exist = pipe.execute()
        for one, there in zip(found, exist, strict=True):
            if not there:
                self.remove(one.id)
        return [one for one, there in zip(found, exist, strict=True) if there]
