"""From regions to tiles, the full picture, its thumbnail and the manifest."""

import hashlib
import os
from collections.abc import Callable, Generator
from contextlib import closing
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from service import tracing
from service.application.ports import ObjectStore
from service.domain.artifacts import MEDIA_TYPES, ArtifactKeys, ArtifactRef, Manifest, TileRef
from service.domain.generations.events import TileStored
from service.domain.requests.request import ResolvedRequest
from service.settings import WorkerSettings
from service.storage.deep_zoom import deep_zoom
from service.storage.encode import encode
from service.storage.manifests import write_manifest
from service.storage.metadata import encode_marked
from service.storage.pyramid import PyramidWriter
from service.worker.job.attempt import Attempt
from service.worker.job.checking import Checker, HeldBack, Pass, Picture, look_at, shrunk
from service.worker.job.region import Missing, Region
from service.worker.job.stopwatch import Stopwatch
from service.worker.result.recipe import recipe_text
from service.worker.result.salvage import Salvage

#: The thumbnail is the largest level that fits into this square.
THUMBNAIL_PIXELS = 512

#: Encoding takes few cores: the decoder, where it runs on the processor, needs the others.
_ENCODER_THREADS = max(1, min(4, (os.cpu_count() or 2) // 2))


class Rendering:
    """One picture on its way to the store; in its `with` block, first `draw` and then `finish`.

    Drawing needs the device; finishing does not, so another picture may be drawn meanwhile.

    Args:
        attempt: told of each tile; asked between regions whether to go on.
        store: takes every object.
        settings: size and overlap of the tiles.
        recipe: goes into the picture's file, unless the request leaves it out, and into the
            manifest with the times taken.
        stopwatch: takes the times.
        earlier: of an attempt that began this very picture; what it stored is not made again.
        checker: looks at the whole picture before any of it is stored.
    """

    def __init__(
        self,
        attempt: Attempt,
        *,
        store: ObjectStore,
        settings: WorkerSettings,
        recipe: dict[str, Any],
        stopwatch: Stopwatch,
        earlier: ArtifactKeys | None = None,
        checker: Checker | None = None,
    ) -> None:
        request = attempt.generation.request
        self._attempt = attempt
        self._request = request
        self._store = store
        self._recipe = recipe
        self._stopwatch = stopwatch
        self._checker = checker
        self._pyramid = deep_zoom(
            request.output_width,
            request.output_height,
            settings.tile_size,
            settings.tile_overlap,
            request.tile_format,
        )
        self._deep = _deep_pixels(request)
        # What an earlier attempt stored may be a checker's replacement, not what was decoded.
        reusable = earlier if self._deep is None and checker is None and request.tiles else None
        self._salvage = Salvage(store, reusable, self._pyramid) if reusable else None
        on_tile = self._tell if request.tiles else None
        self._writer = PyramidWriter(
            store, attempt.keys, self._pyramid, on_tile, threads=_ENCODER_THREADS
        )

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def _tell(self, tile: TileRef, done: int, total: int) -> None:
        self._attempt.tell(TileStored, tile=tile, done=done, total=total)

    @torch.no_grad()
    def draw(self, draw: Callable[[Missing], Generator[Region]]) -> None:
        """Draw, and store tiles while they come.

        Args:
            draw: makes the regions of the picture.

        Raises:
            ContentFiltered, CheckerFailed: the checker lets nobody see the picture.
            StoreError, Unavailable: the store does not take an object.
        """
        request, writer = self._request, self._writer
        held = None
        if self._checker is not None:
            held = HeldBack(request.output_width, request.output_height)
        with closing(draw(self._salvaged)) as regions:
            for region in regions:
                _put_region(held or writer, self._deep, region)
        if self._checker is not None and held is not None:
            with self._stopwatch.phase("check"):
                said = _release(held, writer, self._deep, self._checker, request)
            self._recipe = self._recipe | said

    def finish(self) -> Manifest:
        """Store the rest, and close the result with its manifest, which is returned.

        Raises:
            StoreError, Unavailable: the store does not take an object.
        """
        attempt, request, writer = self._attempt, self._request, self._writer
        with self._stopwatch.phase("encode"):
            writer.finish()
            attempt.stop_if_cancelled()
            finest = writer.pixels(len(self._pyramid.levels) - 1)
            pixels = finest if self._deep is None else self._deep
            image = _store_image(self._store, attempt, pixels, self._recipe)
            thumbnail = _store_thumbnail(self._store, attempt, writer)
        manifest = Manifest(
            generation_id=attempt.generation.id,
            attempt=attempt.generation.attempt,
            width=request.output_width,
            height=request.output_height,
            image=image,
            thumbnail=thumbnail,
            pyramid=self._pyramid if request.tiles else None,
            recipe=self._recipe | {"seconds": self._stopwatch.seconds},
            stored_bytes=writer.stored_bytes + image.bytes + thumbnail.bytes,
            created_at=datetime.now(UTC),
        )
        attempt.stop_if_cancelled()
        with tracing.span("manifest"):
            write_manifest(self._store, manifest)
        return manifest

    def _salvaged(self, tile: int) -> set[tuple[int, int]]:
        """Hand in the regions that are there already; returns top, left of those that are not."""
        finest = self._pyramid.levels[-1]
        missing = set()
        for top in range(0, finest.height, tile):
            for left in range(0, finest.width, tile):
                self._attempt.stop_if_cancelled()
                size = min(tile, finest.width - left), min(tile, finest.height - top)
                salvage = self._salvage
                pixels = None if salvage is None else salvage.region(left, top, *size)
                if pixels is None:
                    missing.add((top, left))
                else:
                    self._writer.add(left, top, pixels)
        return missing


def _deep_pixels(request: ResolvedRequest) -> NDArray[np.uint16] | None:
    """Room for the picture at 16 bits per channel, when its file is to hold more than 8."""
    if request.bit_depth == 8:
        return None
    return np.empty((request.output_height, request.output_width, 3), np.uint16)


def _release(
    held: HeldBack,
    writer: PyramidWriter,
    deep: NDArray[np.uint16] | None,
    checker: Checker,
    request: ResolvedRequest,
) -> dict[str, str]:
    """Have a picture checked and hand it to the writer; returns what the recipe is to say of it."""
    small = shrunk(held.pixels)
    picture = Picture(held.pixels, small, request.prompt, request.negative_prompt, request.model)
    verdict = look_at(checker, picture)
    if isinstance(verdict, Pass):
        writer.add(0, 0, held.pixels)
        return {}
    writer.add(0, 0, verdict.pixels)
    if deep is not None:
        deep[:] = verdict.pixels.astype(np.uint16) * 257  # 255 becomes 65535
    return {"content_replaced": verdict.reason}


def _put_region(
    writer: PyramidWriter | HeldBack, deep: NDArray[np.uint16] | None, region: Region
) -> None:
    """Hand a region to the writer, and put it into `deep` if given."""
    writer.add(region.left, region.top, region.integers(torch.uint8))
    if deep is not None:
        region.put_into(deep, torch.uint16)


def _store_image(
    store: ObjectStore, attempt: Attempt, pixels: NDArray[Any], recipe: dict[str, Any]
) -> ArtifactRef:
    request = attempt.generation.request
    data = encode_marked(
        pixels,
        request.output_format,
        recipe_text(recipe) if request.metadata else None,
        quality=request.quality,
        bit_depth=request.bit_depth,
    )
    key = attempt.keys.image(request.output_format)
    return _put(store, key, data, MEDIA_TYPES[request.output_format])


def _store_thumbnail(store: ObjectStore, attempt: Attempt, writer: PyramidWriter) -> ArtifactRef:
    level = max(
        level.level
        for level in writer.pyramid.levels
        if max(level.width, level.height) <= THUMBNAIL_PIXELS
    )
    data = encode(writer.pixels(level), "jpeg")
    return _put(store, attempt.keys.thumbnail, data, MEDIA_TYPES["jpeg"])


def _put(store: ObjectStore, key: str, data: bytes, media_type: str) -> ArtifactRef:
    store.put(key, data, media_type)
    digest = hashlib.sha256(data).hexdigest()
    return ArtifactRef(key=key, media_type=media_type, bytes=len(data), sha256=digest)
