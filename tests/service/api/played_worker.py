"""A worker's part, played by a test: it records what a real one would, without making pictures."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from service.application.ports import ObjectStore, Records
from service.domain.artifacts import (
    EXTENSIONS,
    MEDIA_TYPES,
    ArtifactKeys,
    ArtifactRef,
    Manifest,
    Pyramid,
    PyramidLevel,
    TileRef,
)
from service.domain.generations.events import (
    Event,
    Failed,
    Previewed,
    Stepped,
    Succeeded,
    TileStored,
)
from service.domain.generations.generation import Failure, Generation

IMAGE = bytes(range(256)) * 1000
THUMBNAIL = b"thumbnail"
PREVIEW = b"preview"


class PlayedWorker:
    """Runs generations step by step, as the test says.

    Attributes:
        spread_keys: whether it writes under spread keys from now on.
    """

    spread_keys = False

    def __init__(self, records: Records, store: ObjectStore) -> None:
        self._records = records
        self.store = store

    def start(self, generation_id: str) -> Generation:
        """Begin an attempt."""
        started = self._records.begin_attempt(generation_id, "played", datetime.now(UTC))
        assert started is not None
        return started

    def step(self, generation: Generation, step: int, total: int = 3) -> None:
        """Tell of a denoising step."""
        common = self._common(generation)
        self.record(generation, Stepped(**common, step=step, total=total, eta_seconds=0.25))

    def preview(self, generation: Generation, step: int, data: bytes = PREVIEW) -> None:
        """Store a preview and tell of it."""
        key = self._keys(generation).preview(step)
        self.store.put(key, data, "image/jpeg")
        common = self._common(generation)
        self.record(generation, Previewed(**common, step=step, key=key, width=64, height=64))

    def tile(self, generation: Generation, column: int, data: bytes, done: int = 1) -> TileRef:
        """Store a tile of level 9 and tell of it."""
        tile_format = generation.request.tile_format
        key = self._keys(generation).tile(9, column, 0, tile_format)
        self.store.put(key, data, MEDIA_TYPES[tile_format])
        tile = TileRef(level=9, column=column, row=0, left=0, top=0, width=256, height=256, key=key)
        common = self._common(generation)
        self.record(generation, TileStored(**common, tile=tile, done=done, total=2))
        return tile

    def succeed(
        self,
        generation: Generation,
        image: bytes = IMAGE,
        thumbnail: bytes = THUMBNAIL,
        pyramid: Pyramid | None = None,
    ) -> Manifest:
        """Store the picture, its thumbnail and the manifest, and tell of success."""
        keys, request = self._keys(generation), generation.request
        one_tile = Pyramid(
            tile_size=512,
            overlap=1,
            format=request.tile_format,
            levels=(PyramidLevel(level=0, width=1, height=1, columns=1, rows=1),),
        )
        manifest = Manifest(
            generation_id=generation.id,
            attempt=generation.attempt,
            width=request.width,
            height=request.height,
            image=self._put(keys.image(request.output_format), image, request.output_format),
            thumbnail=self._put(keys.thumbnail, thumbnail, "jpeg"),
            pyramid=(pyramid or one_tile) if request.tiles else None,
            recipe={"request": request.model_dump(), "versions": {"torch": "2.13.0"}},
            stored_bytes=len(image) + len(thumbnail),
            created_at=datetime.now(UTC),
        )
        self.record(generation, Succeeded(**self._common(generation), manifest=manifest))
        return manifest

    def fail(self, generation: Generation, reason: str = "OUT_OF_MEMORY") -> None:
        """Tell of failure."""
        error = Failure(reason=reason, detail="the picture is too large", retryable=False)
        self.record(generation, Failed(**self._common(generation), error=error))

    def record(self, generation: Generation, event: Event) -> None:
        """Record an event of a running attempt."""
        assert self._records.record(generation.id, event)

    def run(self, generation_id: str) -> Generation:
        """The whole way: three steps, a preview, two tiles, success."""
        generation = self.start(generation_id)
        for step in (1, 2, 3):
            self.step(generation, step)
        self.preview(generation, 2)
        self.tile(generation, 0, b"tile zero", done=1)
        self.tile(generation, 1, b"tile one", done=2)
        self.succeed(generation)
        return generation

    def _put(self, key: str, data: bytes, picture_format: str) -> ArtifactRef:
        assert key.endswith(EXTENSIONS[picture_format])
        info = self.store.put(key, data, MEDIA_TYPES[picture_format])
        digest = hashlib.sha256(data).hexdigest()
        return ArtifactRef(key=key, media_type=info.media_type, bytes=len(data), sha256=digest)

    def _keys(self, generation: Generation) -> ArtifactKeys:
        return ArtifactKeys(generation.id, generation.attempt, spread=self.spread_keys)

    @staticmethod
    def _common(generation: Generation) -> dict[str, Any]:
        return {"attempt": generation.attempt, "at": datetime.now(UTC)}
