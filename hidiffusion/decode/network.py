"""A chain of layers run over a picture that is never in one piece between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from hidiffusion.decode.feature_map import FeatureMap
from hidiffusion.decode.layers import ConvLayer, Layer
from hidiffusion.decode.sweep import Sweep
from hidiffusion.decode.tiles import Grid, Region, Span, Wanted


@dataclass(frozen=True)
class Network:
    """One half of an autoencoder, in two forms that compute the same.

    Attributes:
        modules: called one after the other, they compute the whole picture at once.
        layers: the same, as layers that work tile by tile, up to the last norm.
        head: the last norm and what follows it.
    """

    modules: Sequence[nn.Module]
    layers: Sequence[Layer]
    head: ConvLayer

    def steps(self, grid: Grid) -> int:
        """How many steps `tiles` takes on an input that is cut by `grid`."""
        if grid.count == 1:
            return 1
        return sum(layer.steps(grid) for layer in (*self.layers, self.head))

    def tiles(
        self, source: Tensor, grid: Grid, sweep: Sweep, wanted: Wanted = lambda _: True
    ) -> Iterator[tuple[Region, Tensor]]:
        """Compute the output, one finished region after the other.

        Args:
            source: undivided input `[B, C, H, W]`, on any device.
            grid: its tiles.
            sweep: how tiles are computed.
            wanted: which regions of the output to compute; all before them are, whatever it says.

        Yields:
            Region of the output and its values `[B, C', h, w]`.
        """
        sweep.total = self.steps(grid)
        if grid.count == 1:
            sweep.step()
            yield self._undivided(source.to(sweep.device))
            return
        feature_map = FeatureMap.whole(source, grid)
        for layer, following in zip(self.layers, (*self.layers[1:], self.head), strict=True):
            feature_map = layer.run(feature_map, sweep, following.statistics())
        yield from self.head.tiles(feature_map, sweep, wanted)

    def _undivided(self, values: Tensor) -> tuple[Region, Tensor]:
        for module in self.modules:
            values = module(values)
        return Region(Span(0, values.shape[2]), Span(0, values.shape[3])), values
