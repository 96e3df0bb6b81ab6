"""Upscaling in one pass by a network that spandrel reads: tile by tile, each final at once."""

from collections.abc import Generator
from itertools import product

import numpy as np
import torch

from service.domain.requests.request import ResolvedRequest
from service.worker.engines.engine import Job
from service.worker.job.region import Region
from service.worker.weights.enlarger import Enlarger
from service.worker.weights.warm import WarmPipeline

#: Side of a tile in pixels of the small picture; the second, more frugal try takes the smaller.
#: Multiples of the windows that the known architectures have, so that these lie as in the whole.
TILE, FRUGAL_TILE = 128, 64


class OnePass:
    """Enlarges the picture `image` of a request by its `scale`.

    Args:
        warm: with an `Enlarger`.
    """

    def __init__(self, warm: WarmPipeline) -> None:
        self._enlarger: Enlarger = warm.pipe

    def regions(self, job: Job) -> Generator[Region]:
        """Each tile is a region, computed with a margin around it that is cut off again."""
        small = torch.from_numpy(np.array(job.pictures["image"])).permute(2, 0, 1)[None]
        height, width = small.shape[2:]
        side = FRUGAL_TILE if job.frugal else TILE
        if not self._enlarger.tiled:
            side = max(height, width)
        scale, margin = self._enlarger.scale, self._enlarger.margin
        with job.stopwatch.phase("decode"):
            wanted = job.missing(side * scale)
            for top, left in product(range(0, height, side), range(0, width, side)):
                job.attempt.stop_if_cancelled()
                if (top * scale, left * scale) not in wanted:
                    continue
                above, before = min(top, margin), min(left, margin)
                seen = small[
                    ...,
                    top - above : top + side + margin,
                    left - before : left + side + margin,
                ]
                large = self._enlarger(seen / 255)[..., above * scale :, before * scale :]
                pixels = large[..., : side * scale, : side * scale]
                yield Region(top * scale, left * scale, pixels * 2 - 1)

    def steps(self, _request: ResolvedRequest, /) -> int:
        """None: each tile is told of as it is stored."""
        return 0
