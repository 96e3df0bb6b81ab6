"""Find results that the store does not hold whole: after a backup was restored, above all.

A record that says `succeeded` is written after everything it refers to, so this finds nothing
while Redis and the store are of the same time. A store that is older lacks what came later, and
one that is newer lacks what was deleted since.
"""

import logging
from collections.abc import Iterator

from service.application.ports import ObjectStore, Records
from service.domain.artifacts import ArtifactKeys, Manifest
from service.domain.errors import GenerationNotFound
from service.domain.generations.generation import Generation, Status

_log = logging.getLogger(__name__)

_PAGE = 100


class VerifyResults:
    """Compare what succeeded with what is stored.

    Args:
        records: the records.
        store: where the objects are.
    """

    def __init__(self, records: Records, store: ObjectStore) -> None:
        self._records = records
        self._store = store

    def __call__(self, *, forget: bool = False) -> list[Generation]:
        """The generations that succeeded and lack something; with `forget` their records go.

        Raises:
            Unavailable: Redis or the store cannot be reached.
        """
        broken = [each for each in self._succeeded() if self._lacks(each)]
        for generation in broken if forget else ():
            self._records.delete(generation.id)
            _log.warning("%s is forgotten: its result is not whole", generation.id)
        return broken

    def _succeeded(self) -> Iterator[Generation]:
        cursor: str | None = None
        while True:
            page = self._records.list(status=Status.SUCCEEDED, cursor=cursor, limit=_PAGE)
            yield from page.generations
            cursor = page.next_cursor
            if cursor is None:
                return

    def _lacks(self, generation: Generation) -> bool:
        manifest = generation.result
        if manifest is None or is_whole(manifest, self._store):
            return False
        try:  # it may have been deleted in the meantime
            return self._records.get(generation.id).result == manifest
        except GenerationNotFound:
            return False


def is_whole(manifest: Manifest, store: ObjectStore) -> bool:
    """Whether the store has the picture, the thumbnail and every tile of a result."""
    stored = store.sizes(ArtifactKeys.beside(manifest.image.key).prefix)
    exact = {ref.key: ref.bytes for ref in (manifest.image, manifest.thumbnail)}
    return exact.items() <= stored.items() and stored.keys() >= set(_tiles(manifest))


def _tiles(manifest: Manifest) -> Iterator[str]:
    """The keys of all tiles of a result."""
    if manifest.pyramid is None:
        return
    keys = ArtifactKeys.beside(manifest.image.key)
    for level in manifest.pyramid.levels:
        for column in range(level.columns):
            for row in range(level.rows):
                yield keys.tile(level.level, column, row, manifest.pyramid.format)
