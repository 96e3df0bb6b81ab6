"""A feature map that is written and read tile by tile and freed from the top down."""

from __future__ import annotations

import torch
from torch import Tensor

from hidiffusion.decode.norm_statistics import GroupStatistics
from hidiffusion.decode.tiles import Grid, Region, Span


class FeatureMap:
    """One `[B, C, H, W]` activation, kept as strips of full width.

    Each tile is written once, from left to right and from top to bottom, and counted into the
    statistics of the `GroupNorm` that will read the map. A strip is freed when its last reader
    has passed, so the maps on both sides of a layer need about as much as the larger of them.

    Args:
        grid: the tiles at this map's scale.
        storage: device that holds the strips; None for wherever tiles are computed.
        statistics: of the `GroupNorm` that reads this map, if one does.
    """

    def __init__(
        self,
        grid: Grid,
        storage: torch.device | None = None,
        statistics: GroupStatistics | None = None,
    ) -> None:
        self.grid = grid
        self.statistics = statistics
        self._storage = storage
        self._strips: list[tuple[Span, Tensor]] = []

    @classmethod
    def whole(cls, values: Tensor, grid: Grid) -> FeatureMap:
        """Present an undivided tensor `[B, C, H, W]` as a map; nothing is copied."""
        feature_map = cls(grid)
        feature_map._strips.append((Span(0, grid.height), values))
        return feature_map

    def write(self, region: Region, values: Tensor) -> None:
        """Store the tile `values` `[B, C, h, w]`."""
        if self.statistics is not None:
            self.statistics.add(values)
        if region.columns.start == 0:
            self._strips.append((region.rows, self._new_strip(values)))
        strip = self._strips[-1][1]
        strip[..., region.columns.start : region.columns.stop] = values

    def read(self, rows: Span, columns: Span, device: torch.device) -> Tensor:
        """Give the values of a rectangle on `device`: a view where nothing has to be copied."""
        parts = [
            strip[:, :, max(rows.start - span.start, 0) : rows.stop - span.start][
                ..., columns.start : columns.stop
            ].to(device)
            for span, strip in self._strips
            if span.start < rows.stop and rows.start < span.stop
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def release_above(self, row: int) -> None:
        """Free what lies above `row`: whole strips, and the upper part of one mostly passed."""
        strips = [(span, strip) for span, strip in self._strips if span.stop > row]
        if strips and 2 * (strips[0][0].stop - row) < strips[0][0].length:
            span, strip = strips[0]
            strips[0] = (Span(row, span.stop), strip[:, :, row - span.start :].clone())
        self._strips = strips

    def _new_strip(self, values: Tensor) -> Tensor:
        batch, channels, height, _ = values.shape
        device = values.device if self._storage is None else self._storage
        return torch.empty(
            (batch, channels, height, self.grid.width), dtype=values.dtype, device=device
        )
