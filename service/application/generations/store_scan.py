"""Go through the whole store, and delete what no generation refers to any more.

The sweep of `service.application.generations.retention` finds what has to go by indexes. What these
do not know, because Redis lost them or an older version had none, is found here, by a list of every
object. It needs about a kilobyte of memory for each, so it runs only when an operator asks.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from service.application.generations.retention import (
    BATCH,
    Budget,
    Retained,
    Swept,
    delete_everywhere,
)
from service.application.ports import ObjectStore
from service.domain.artifacts import GENERATIONS_PREFIX, ArtifactKeys, attempt_of
from service.domain.generations.generation import Generation
from service.domain.requests.uploads import UPLOADS_PREFIX

_log = logging.getLogger(__name__)

#: Keys of attempts and of uploads; whatever else lies beside them is not ours to delete.
_UPLOAD = re.compile(r"uploads/[^/]+/[^/]+/[^/]+$")


class ScanStore:
    """Delete what is over the budget and what is left over.

    Nothing of a generation that waits or runs is touched: its earlier attempts may hold the
    checkpoint that the next one needs. What only a crash leaves behind is found because nothing
    refers to it: objects without a record, and those of attempts that another one overtook.

    Args:
        store: where the objects are.
        retained: the records, and what was condemned since when.
        budget: what the store may hold in bytes, given what it holds; None: no limit.
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
        # Objects are listed before records are read: a record is there before its first object,
        # so what has no record now has lost it.
        sizes = self._sizes()
        records = self._records(sorted({*map(_owner, sizes)}))
        condemned = {key: size for key, size in sizes.items() if _is_left_over(key, records)}
        uploads = self._uploads()
        condemned |= self._left_over_uploads(uploads)
        kept = sum(sizes.values()) + sum(uploads.values()) - sum(condemned.values())
        allowed = self._budget(sum(sizes.values()) + sum(uploads.values()))
        ended = 0
        for generation_id, mine in _oldest_first(sizes, records):
            if allowed is None or kept <= allowed:
                break
            self._retained.delete(generation_id)
            kept -= sum(size for key, size in mine.items() if key not in condemned)
            condemned |= mine
            ended += 1
        objects = self._delete(condemned)
        if ended or objects:
            _log.info("swept %d records and %d objects; %d bytes stay", ended, objects, kept)
        return Swept(ended, objects, kept)

    def _sizes(self) -> dict[str, int]:
        sizes = self._store.sizes(GENERATIONS_PREFIX)
        return {key: size for key, size in sizes.items() if attempt_of(key)}

    def _records(self, ids: list[str]) -> dict[str, Generation]:
        found: dict[str, Generation] = {}
        for start in range(0, len(ids), BATCH):
            found |= self._retained.find(ids[start : start + BATCH])
        return found

    def _left_over_uploads(self, uploads: dict[str, int]) -> dict[str, int]:
        """Uploads that have expired, but for those that a generation still has to start from."""
        keys = sorted(uploads)
        left = set(keys)
        for start in range(0, len(keys), BATCH):
            left -= self._retained.find_uploads(keys[start : start + BATCH])
        if left:
            left -= self._retained.inputs_in_use()
        return {key: uploads[key] for key in left}

    def _uploads(self) -> dict[str, int]:
        sizes = self._store.sizes(UPLOADS_PREFIX)
        return {key: size for key, size in sizes.items() if _UPLOAD.match(key)}

    def _delete(self, condemned: Iterable[str]) -> int:
        """Delete what has been condemned for long enough."""
        due = self._retained.condemn({_unit(key) for key in condemned}, self._grace_seconds)
        deleted = 0
        for prefix in sorted(due):
            deleted += delete_everywhere(self._store, prefix)
            self._retained.forget(prefix)
        return deleted


def _is_left_over(key: str, records: dict[str, Generation]) -> bool:
    """Whether no record refers to an object, nor ever will."""
    generation = records.get(_owner(key))
    if generation is None:
        return True
    if not generation.status.final:
        return False
    keys = ArtifactKeys.beside(key)
    return attempt_of(key) != (generation.id, generation.attempt) or key == keys.checkpoint


def _oldest_first(
    sizes: dict[str, int], records: dict[str, Generation]
) -> Iterator[tuple[str, dict[str, int]]]:
    """Final generations with their objects; ids begin with the time of their acceptance."""
    objects: dict[str, dict[str, int]] = defaultdict(dict)
    for key, size in sizes.items():
        objects[_owner(key)][key] = size
    for generation_id in sorted(records):
        if records[generation_id].status.final:
            yield generation_id, objects[generation_id]


def _unit(key: str) -> str:
    """What is deleted together: a checkpoint or an upload alone, anything else by its attempt."""
    if key.startswith(UPLOADS_PREFIX):
        return key
    found = attempt_of(key)
    assert found is not None
    plain, is_checkpoint = ArtifactKeys(*found), key == ArtifactKeys.beside(key).checkpoint
    return plain.checkpoint if is_checkpoint else plain.prefix


def _owner(key: str) -> str:
    """The id of the generation that left an object."""
    found = attempt_of(key)
    assert found is not None
    return found[0]
