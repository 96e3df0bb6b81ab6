"""Going over a picture tile by tile, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hidiffusion.decode.feature_map import FeatureMap
from hidiffusion.decode.tiles import Grid, Reach, Region, Span

#: Called before each internal tile step with (steps done, steps in all). Raising cancels.
Progress = Callable[[int, int], None]


@dataclass
class Sweep:
    """How tiles are computed: on which device, kept where, and reported to whom.

    Attributes:
        device: where tiles are computed.
        storage: where feature maps are kept; None for `device`.
        progress: told of every step, if given.
        total: number of steps in all.
        done: number of steps so far.
    """

    device: torch.device
    storage: torch.device | None
    progress: Progress | None = None
    total: int = 0
    done: int = 0

    def step(self) -> None:
        """Report that the next step begins: the moment to cancel by raising."""
        if self.progress is not None:
            self.progress(self.done, self.total)
        self.done += 1

    def walk(self, grid: Grid, *consumed: FeatureMap) -> Iterator[Region]:
        """Visit the tiles of `grid`, row by row, and free what no later tile reads.

        Args:
            grid: the tiles to be written.
            consumed: maps that have no reader after this walk, cut as often as `grid`.
        """
        for index, rows in enumerate(grid.rows):
            for columns in grid.columns:
                self.step()
                yield Region(rows, columns)
            for feature_map in consumed:
                feature_map.release_above(feature_map.grid.row_cuts[index + 1] - 1)

    def read(self, source: FeatureMap, region: Region) -> Tensor:
        """Give exactly `region` of a map, `[B, C, h, w]`, on the computing device."""
        return source.read(region.rows, region.columns, self.device)

    def look(
        self,
        source: FeatureMap,
        region: Region,
        reach: Reach,
        compute: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Compute `region` of a layer's output from the input it depends on.

        Args:
            source: the layer's input.
            region: tile of the layer's output.
            reach: how the output depends on the input.
            compute: the layer, on a window `[B, C, h', w']` of its input.

        Returns:
            The tile, `[B, C', h, w]`.
        """
        rows = reach.view(region.rows, source.grid.height)
        columns = reach.view(region.columns, source.grid.width)
        values = compute(source.read(rows.window, columns.window, self.device))
        return values[:, :, rows.crop, columns.crop]


def everything(grid: Grid) -> Region:
    """The region that is the whole map."""
    return Region(Span(0, grid.height), Span(0, grid.width))
