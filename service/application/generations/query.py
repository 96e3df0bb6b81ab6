"""Read what is known: records, lists, artifacts, models, and whether all is well."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.application.generations.queue_place import QueuePlace, queue_place
from service.application.generations.readiness import Readiness
from service.application.ports import (
    CatalogSource,
    ObjectInfo,
    ObjectStore,
    Page,
    Records,
    WebhookFigures,
    Webhooks,
    WorkerInfo,
)
from service.domain.artifacts import EXTENSIONS, ArtifactKeys, TileFormat, TileRef
from service.domain.errors import ArtifactNotFound, NotFound
from service.domain.generations.generation import Generation, Status
from service.domain.models.catalog import Model

MAX_PAGE = 100


@dataclass(frozen=True)
class ModelStatus:
    """A model of the catalogue with the state of the workers that serve it."""

    model: Model
    warm_workers: int
    queued: int


@dataclass(frozen=True)
class Tiling:
    """What a Deep Zoom viewer must know; sizes in pixels."""

    width: int
    height: int
    tile_size: int
    overlap: int
    format: TileFormat


class Query:
    """Every read a front end offers."""

    def __init__(
        self,
        catalog: CatalogSource,
        records: Records,
        store: ObjectStore,
        webhooks: Webhooks,
        *,
        tile_size: int = 512,
        tile_overlap: int = 1,
    ) -> None:
        """Read from these; tile sizes, in pixels, are those the workers use."""
        self._catalog = catalog
        self._records = records
        self._store = store
        self._webhooks = webhooks
        self._tile_size = tile_size
        self._tile_overlap = tile_overlap
        self._readiness = Readiness(records.ping, store.ping)

    def generation(self, generation_id: str) -> Generation:
        """One record; raises `GenerationNotFound`."""
        return self._records.get(generation_id)

    def place(self, generation: Generation) -> QueuePlace | None:
        """Where a queued generation stands in its queue; None when it waits no more."""
        return queue_place(self._records, generation)

    def generations(self, status: Status | None, cursor: str | None, limit: int) -> Page:
        """A page of records, newest first; `limit` is capped at 100."""
        return self._records.list(status=status, cursor=cursor, limit=min(limit, MAX_PAGE))

    def model(self, name: str | None) -> Model | None:
        """One model of the catalogue (None: the default), or None when it has no such model."""
        catalog = self._catalog()
        return catalog.default if name is None else catalog.find(name)

    def models(self) -> list[ModelStatus]:
        """Every model with its warm workers and queue depth."""
        workers = self._records.workers()
        return [
            ModelStatus(
                model=model,
                warm_workers=sum(model.name in worker.warm_models for worker in workers),
                queued=self._records.queue_depth(model.name),
            )
            for model in self._catalog().models
        ]

    def image(self, generation_id: str) -> ObjectInfo:
        """The finished full-size picture; raises `ArtifactNotFound` until there is one."""
        generation = self._records.get(generation_id)
        if generation.result is None:
            raise ArtifactNotFound(generation_id, "image", generation.status)
        return self._head(generation, [generation.result.image.key], "image")

    def thumbnail(self, generation_id: str) -> ObjectInfo:
        """The finished thumbnail; raises `ArtifactNotFound` until there is one."""
        generation = self._records.get(generation_id)
        if generation.result is None:
            raise ArtifactNotFound(generation_id, "thumbnail", generation.status)
        return self._head(generation, [generation.result.thumbnail.key], "thumbnail")

    def preview(self, generation_id: str, step: int) -> ObjectInfo:
        """The preview after `step` steps of the current attempt."""
        generation = self._records.get(generation_id)
        keys = [each.preview(step) for each in _keys(generation)]
        return self._head(generation, keys, f"preview of step {step}")

    def tile(self, generation_id: str, level: int, column: int, row: int, ext: str) -> ObjectInfo:
        """One tile of the current attempt, as soon as it is stored."""
        name = f"tile {level}/{column}_{row}.{ext}"
        generation = self._tiled(generation_id, name)
        tile_format = next((f for f, known in EXTENSIONS.items() if known == ext), None)
        if tile_format is None:
            raise ArtifactNotFound(generation_id, name, generation.status)
        keys = [each.tile(level, column, row, tile_format) for each in _keys(generation)]
        return self._head(generation, keys, name)

    def stored_tile(self, tile: TileRef) -> ObjectInfo:
        """The tile that an event told of; raises `NotFound` when it was deleted since."""
        return self._store.head(tile.key)

    def tiling(self, generation_id: str) -> Tiling:
        """Geometry of the pyramid, known from the moment an attempt begins.

        Raises:
            ArtifactNotFound: no attempt has begun, or no tiles were asked for.
        """
        generation = self._tiled(generation_id, "tiles.dzi")
        request, result = generation.request, generation.result
        pyramid = None if result is None else result.pyramid
        if result is not None and pyramid is not None:
            return Tiling(
                result.width, result.height, pyramid.tile_size, pyramid.overlap, pyramid.format
            )
        if generation.attempt == 0:
            raise ArtifactNotFound(generation_id, "tiles.dzi", generation.status)
        return Tiling(
            request.output_width,
            request.output_height,
            self._tile_size,
            self._tile_overlap,
            request.tile_format,
        )

    def read(self, info: ObjectInfo, start: int = 0, end: int | None = None) -> bytes:
        """Bytes `start` up to `end` (default: all) of an artifact."""
        if start == 0 and end is None:
            return self._store.get(info.key)
        return self._store.get_range(info.key, start, info.size if end is None else end)

    def presign(self, info: ObjectInfo, expires_seconds: int) -> str | None:
        """A direct URL of an artifact, where the store has such."""
        return self._store.presign(info.key, expires_seconds)

    def workers(self) -> tuple[WorkerInfo, ...]:
        """Workers whose heartbeat is recent."""
        return self._records.workers()

    def unreadable(self) -> int:
        """How many records of another version somebody could not read."""
        return self._records.unreadable()

    def webhooks(self) -> WebhookFigures:
        """How the deliveries of webhooks stand."""
        return self._webhooks.figures()

    def check_ready(self) -> None:
        """Return when a request could be accepted now: a write to Redis and one to the store work.

        Workers do not matter to that: what is accepted waits for one.

        Raises:
            Unavailable: one of them does not take it; it names which.
        """
        self._readiness.check()

    def _tiled(self, generation_id: str, artifact: str) -> Generation:
        """The record of a generation whose tiles were asked for."""
        generation = self._records.get(generation_id)
        if not generation.request.tiles:
            remedy = "it was asked for with tiles: false, so fetch the whole image"
            raise ArtifactNotFound(generation_id, artifact, generation.status, remedy)
        return generation

    def _head(self, generation: Generation, keys: Iterable[str], artifact: str) -> ObjectInfo:
        for key in keys:
            with contextlib.suppress(NotFound):
                return self._store.head(key)
        raise ArtifactNotFound(generation.id, artifact, generation.status)


def _keys(generation: Generation) -> Sequence[ArtifactKeys]:
    """Where the current attempt writes, which only its result tells for certain."""
    if generation.result is not None:
        return (ArtifactKeys.beside(generation.result.image.key),)
    return ArtifactKeys.either(generation.id, generation.attempt)
