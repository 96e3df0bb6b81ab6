"""From latents to regions of the picture, by the exact tiled decoder."""

from collections.abc import Generator
from types import MappingProxyType
from typing import Any

import torch

from hidiffusion.decode import decode_tiles, unscale
from hidiffusion.decode.streaming import DEFAULT_TILE
from service.worker.job.attempt import Attempt
from service.worker.job.region import Missing, Region
from service.worker.job.stopwatch import Stopwatch
from service.worker.weights.frugal import DECODER_TILE
from service.worker.weights.inputs import Pictures, restored


def decoded(
    vae: Any,
    latents: torch.Tensor,
    attempt: Attempt,
    *,
    missing: Missing,
    stopwatch: Stopwatch,
    pictures: Pictures = MappingProxyType({}),
    frugal: bool = False,
) -> Generator[Region]:
    """Decode the regions of a picture that are wanted.

    Args:
        vae: decodes the latents.
        latents: `[1, C, h, w]`, scaled as the pipeline holds them.
        attempt: asked between tiles whether to go on.
        missing: says which regions are wanted.
        stopwatch: takes the time.
        pictures: what it started from; where a mask keeps the picture, it stays as it was given.
        frugal: take less memory and more time.

    Raises:
        NonFiniteError: latents or pixels hold NaN or infinity.
    """
    tile = DECODER_TILE if frugal else DEFAULT_TILE
    with stopwatch.phase("decode"):
        wanted = missing(tile)
        if not wanted:
            return
        tiles = decode_tiles(
            vae,
            unscale(vae, latents),
            tile=tile,
            storage="cpu" if frugal else None,
            progress=lambda *_: attempt.stop_if_cancelled(),
            wanted=lambda top, left: (top, left) in wanted,
        )
        for region in tiles:
            pixels = restored(region.pixels, region.left, region.top, pictures)
            yield Region(region.top, region.left, pixels)
