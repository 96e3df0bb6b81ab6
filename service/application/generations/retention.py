"""Keep the store within its budget, and delete what has ended.

Records end by age in Redis, or here when the store holds more than its budget. Objects follow in a
second step, once they have been without a reader's way to them for a grace period: a client that
was sent to an object a moment ago can still fetch it.

Nothing is searched for. Whatever ends is condemned in the same step that ends it: overtaken
attempts when their generation is final, results when their records are forgotten, uploads by the
time they expire. A sweep costs what has ended since the last one.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.application.ports import ObjectStore
from service.domain.artifacts import places_of
from service.domain.generations.generation import Generation

_log = logging.getLogger(__name__)

#: Records, uploads or condemned prefixes looked up at a time.
BATCH = 100


#: What the store may hold in bytes, given what it holds; None: no limit.
Budget = Callable[[int], int | None]


class Retained(Protocol):
    """What is known of results that have to go. Raises `Unavailable` when unreachable."""

    def find(self, generation_ids: Sequence[str]) -> dict[str, Generation]:
        """Those of the generations that still have a record."""
        ...

    def delete(self, generation_id: str) -> None:
        """Forget a final generation, its events and its idempotency key."""
        ...

    def find_uploads(self, keys: Sequence[str]) -> set[str]:
        """Those of the object keys that the record of an upload refers to."""
        ...

    def inputs_in_use(self) -> set[str]:
        """Object keys of the pictures that unfinished generations start from."""
        ...

    def condemn(self, prefixes: Collection[str], grace_seconds: float) -> list[str]:
        """Condemn objects by their prefixes.

        Returns:
            Those of them that have been condemned for `grace_seconds` or longer.
        """
        ...

    def due(self, grace_seconds: float, limit: int) -> list[str]:
        """The prefixes that were condemned first, at least `grace_seconds` ago."""
        ...

    def is_referred(self, prefix: str) -> bool:
        """Whether a record refers to objects under a condemned prefix after all."""
        ...

    def forget(self, prefix: str) -> None:
        """Strike condemned objects off the list, because they are deleted."""
        ...

    def condemn_uploads(self, limit: int) -> int:
        """Condemn uploads that have expired and that nobody starts from.

        Returns:
            How many were looked at; as many as `limit` means that there may be more.
        """
        ...

    def stored_bytes(self) -> int:
        """Bytes of all results and uploads."""
        ...

    def oldest(self, limit: int) -> list[str]:
        """Ids of the results that were accepted first."""
        ...


@dataclass(frozen=True)
class Swept:
    """What one sweep did: records deleted for the budget, objects deleted, bytes kept."""

    records: int
    objects: int
    kept_bytes: int


class SweepStore:
    """Delete what is over the budget and what is condemned.

    Args:
        store: where the objects are.
        retained: the records, and what was condemned since when.
        budget: what results and uploads may take, given what they take; None: no limit.
        grace_seconds: from condemning objects to deleting them.
    """

    def __init__(
        self,
        store: ObjectStore,
        retained: Retained,
        *,
        budget: Budget,
        grace_seconds: float,
    ) -> None:
        self._store = store
        self._retained = retained
        self._budget = budget
        self._grace_seconds = grace_seconds

    def __call__(self) -> Swept:
        """Sweep once.

        Raises:
            Unavailable: Redis or the store cannot be reached; the next sweep goes on.
        """
        ended = self._end_over_budget()
        while self._retained.condemn_uploads(BATCH) == BATCH:
            pass
        objects = self._delete()
        kept = self._retained.stored_bytes()
        if ended or objects:
            _log.info("swept %d records and %d objects; %d bytes stay", ended, objects, kept)
        return Swept(ended, objects, kept)

    def _end_over_budget(self) -> int:
        """Forget the oldest results until the rest fits."""
        stored, ended = self._retained.stored_bytes(), 0
        allowed = self._budget(stored)
        while allowed is not None and stored > allowed:
            oldest = self._retained.oldest(BATCH)
            for generation_id in oldest:
                self._retained.delete(generation_id)
                ended += 1
                stored = self._retained.stored_bytes()
                if stored <= allowed:
                    break
            if not oldest:
                break
        return ended

    def _delete(self) -> int:
        """Delete what has been condemned for long enough and is not referred to after all."""
        deleted = 0
        while due := self._retained.due(self._grace_seconds, BATCH):
            for prefix in due:
                if not self._retained.is_referred(prefix):
                    deleted += delete_everywhere(self._store, prefix)
                self._retained.forget(prefix)
        return deleted


def delete_everywhere(store: ObjectStore, prefix: str) -> int:
    """Delete what is known by a plain key or prefix, also where its keys are spread; how many."""
    return sum(map(store.delete_prefix, places_of(prefix)))
