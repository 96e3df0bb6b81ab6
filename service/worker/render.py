"""From latents to tiles, the full picture, its thumbnail and the manifest."""

import hashlib
import os
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hidiffusion.decode import decode_tiles, unscale
from service.application.ports import ObjectStore
from service.domain.artifacts import MEDIA_TYPES, ArtifactRef, Manifest, TileRef
from service.domain.events import TileStored
from service.settings import WorkerSettings
from service.storage.deep_zoom import deep_zoom
from service.storage.encode import encode, with_text
from service.storage.manifests import write_manifest
from service.storage.pyramid import PyramidWriter
from service.worker.attempt import Attempt
from service.worker.recipe import png_text
from service.worker.stopwatch import Stopwatch

#: The thumbnail is the largest level that fits into this square.
THUMBNAIL_PIXELS = 512

#: Encoding takes few cores: the decoder, where it runs on the processor, needs the others.
_ENCODER_THREADS = max(1, min(4, (os.cpu_count() or 2) // 2))


@torch.no_grad()
def render(
    vae: Any,
    latents: torch.Tensor,
    attempt: Attempt,
    *,
    store: ObjectStore,
    settings: WorkerSettings,
    recipe: dict[str, Any],
    stopwatch: Stopwatch,
) -> Manifest:
    """Decode, store what comes while it comes, and close the result with its manifest.

    Args:
        vae: decodes the latents.
        latents: `[1, C, h, w]`, scaled as the pipeline holds them.
        attempt: told of each tile; asked between tiles whether to go on.
        store: takes every object.
        settings: size and overlap of the tiles.
        recipe: goes into the PNG as it is, and into the manifest with the times taken.
        stopwatch: takes the times.

    Returns:
        The stored manifest.

    Raises:
        NonFiniteError: latents or pixels hold NaN or infinity.
        StoreError, Unavailable: the store does not take an object.
    """
    request = attempt.generation.request
    pyramid = deep_zoom(request.width, request.height, settings.tile_size, settings.tile_overlap)

    def on_tile(tile: TileRef, done: int, total: int) -> None:
        attempt.tell(TileStored, tile=tile, done=done, total=total)

    with PyramidWriter(store, attempt.keys, pyramid, on_tile, threads=_ENCODER_THREADS) as writer:
        with stopwatch.phase("decode"):
            _decode_into(writer, vae, latents, attempt)
        with stopwatch.phase("encode"):
            writer.finish()
            attempt.stop_if_cancelled()
            image = _store_image(store, attempt, writer.pixels(len(pyramid.levels) - 1), recipe)
            thumbnail = _store_thumbnail(store, attempt, writer)
    manifest = Manifest(
        generation_id=attempt.generation.id,
        attempt=attempt.generation.attempt,
        width=request.width,
        height=request.height,
        image=image,
        thumbnail=thumbnail,
        pyramid=pyramid,
        recipe=recipe | {"seconds": stopwatch.seconds},
        created_at=datetime.now(UTC),
    )
    attempt.stop_if_cancelled()
    write_manifest(store, manifest)
    return manifest


def _decode_into(writer: PyramidWriter, vae: Any, latents: torch.Tensor, attempt: Attempt) -> None:
    """Hand each region to the writer as soon as it is decoded."""
    regions = decode_tiles(
        vae, unscale(vae, latents), progress=lambda *_: attempt.stop_if_cancelled()
    )
    for region in regions:
        writer.add(region.left, region.top, _to_bytes(region.pixels))


def _to_bytes(pixels: torch.Tensor) -> NDArray[np.uint8]:
    """`[1, 3, h, w]` on [-1, 1] to `[h, w, 3]`, uint8, rounded as diffusers rounds."""
    values = ((pixels[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return values.permute(1, 2, 0).contiguous().cpu().numpy()


def _store_image(
    store: ObjectStore, attempt: Attempt, pixels: NDArray[np.uint8], recipe: dict[str, Any]
) -> ArtifactRef:
    picture_format = attempt.generation.request.output_format
    data = encode(pixels, picture_format)
    if picture_format == "png":
        data = with_text(data, png_text(recipe))
    return _put(store, attempt.keys.image(picture_format), data, MEDIA_TYPES[picture_format])


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
