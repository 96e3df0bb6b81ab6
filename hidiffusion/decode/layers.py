"""The layers of an AutoencoderKL, each in a form that works through feature maps tile by tile.

Nothing of the autoencoder is changed or patched: its own modules are called on windows of their
input. Only what must see the whole picture, `GroupNorm`, is replaced by its pooled statistics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from hidiffusion.decode.feature_map import FeatureMap
from hidiffusion.decode.norm_statistics import GroupStatistics, normalise
from hidiffusion.decode.sweep import Sweep, everything
from hidiffusion.decode.tiles import Grid, Reach, Region, Wanted


class Layer(ABC):
    """One layer.

    Attributes:
        name: where it stands in the autoencoder.
        norm: the `GroupNorm` at its entrance, whose statistics its input must carry, or None.
    """

    def __init__(self, name: str, norm: nn.GroupNorm | None) -> None:
        self.name = name
        self.norm = norm

    def statistics(self) -> GroupStatistics | None:
        """Empty statistics for this layer's input."""
        return None if self.norm is None else GroupStatistics(self.norm, self.name)

    def output_grid(self, grid: Grid) -> Grid:
        """The tiles of the output, given those of the input."""
        return grid

    def steps(self, grid: Grid) -> int:
        """How many steps `run` takes."""
        return grid.count

    @abstractmethod
    def run(
        self, source: FeatureMap, sweep: Sweep, statistics: GroupStatistics | None
    ) -> FeatureMap:
        """Compute the output map.

        Args:
            source: the input; it is freed on the way.
            sweep: how tiles are computed.
            statistics: to be gathered from the output for the next layer.
        """


class ConvLayer(Layer):
    """Modules in a row of which one is a 3x3 convolution, behind a `GroupNorm` or none."""

    def __init__(
        self,
        name: str,
        modules: Sequence[nn.Module],
        reach: Reach = Reach.SAME,
        norm: nn.GroupNorm | None = None,
    ) -> None:
        super().__init__(name, norm)
        self._modules = modules
        self._reach = reach

    def output_grid(self, grid: Grid) -> Grid:
        """The tiles of the output, given those of the input."""
        if self._reach is Reach.UPSAMPLE:
            return grid.doubled()
        return grid.halved() if self._reach is Reach.DOWNSAMPLE else grid

    def run(
        self, source: FeatureMap, sweep: Sweep, statistics: GroupStatistics | None
    ) -> FeatureMap:
        """Compute the output map."""
        target = FeatureMap(self.output_grid(source.grid), sweep.storage, statistics)
        compute = _chain(source, self._modules)
        for region in sweep.walk(target.grid, source):
            target.write(region, sweep.look(source, region, self._reach, compute))
        return target

    def tiles(
        self, source: FeatureMap, sweep: Sweep, wanted: Wanted
    ) -> Iterator[tuple[Region, Tensor]]:
        """Compute the output tile by tile, as far as it is wanted, and keep none of it."""
        compute = _chain(source, self._modules)
        for region in sweep.walk(self.output_grid(source.grid), source):
            if wanted(region):
                yield region, sweep.look(source, region, self._reach, compute)


class ResnetLayer(Layer):
    """A residual block: two passes, because its second norm sees the whole first half's output."""

    def __init__(self, name: str, resnet: Any) -> None:
        super().__init__(name, resnet.norm1)
        self._resnet = resnet

    def steps(self, grid: Grid) -> int:
        """How many steps `run` takes."""
        return 2 * grid.count

    def run(
        self, source: FeatureMap, sweep: Sweep, statistics: GroupStatistics | None
    ) -> FeatureMap:
        """Compute the output map."""
        hidden, skip = self._first_half(source, sweep)
        return self._second_half(hidden, skip, sweep, statistics)

    def _first_half(self, source: FeatureMap, sweep: Sweep) -> tuple[FeatureMap, FeatureMap]:
        resnet, grid = self._resnet, source.grid
        inner = GroupStatistics(resnet.norm2, f"{self.name}.norm2")
        hidden = FeatureMap(grid, sweep.storage, inner)
        compute = _chain(source, [resnet.nonlinearity, resnet.conv1])
        if resnet.conv_shortcut is None:
            for region in sweep.walk(grid):
                hidden.write(region, sweep.look(source, region, Reach.SAME, compute))
            return hidden, source
        skip = FeatureMap(grid, sweep.storage)
        for region in sweep.walk(grid, source):
            hidden.write(region, sweep.look(source, region, Reach.SAME, compute))
            skip.write(region, resnet.conv_shortcut(sweep.read(source, region)))
        return hidden, skip

    def _second_half(
        self,
        hidden: FeatureMap,
        skip: FeatureMap,
        sweep: Sweep,
        statistics: GroupStatistics | None,
    ) -> FeatureMap:
        resnet = self._resnet
        target = FeatureMap(hidden.grid, sweep.storage, statistics)
        compute = _chain(hidden, [resnet.nonlinearity, resnet.dropout, resnet.conv2])

        def total(region: Region) -> Tensor:
            residual = sweep.look(hidden, region, Reach.SAME, compute)
            return residual.add_(sweep.read(skip, region)).div_(resnet.output_scale_factor)

        for region in sweep.walk(hidden.grid, hidden, skip):
            target.write(region, total(region))
        return target


class AttentionLayer(Layer):
    """Self-attention over the whole map, its queries taken one row of tiles at a time.

    Keys and values of the whole map are held undivided: every pixel attends to every other.
    """

    def __init__(self, name: str, attention: Any) -> None:
        super().__init__(name, attention.group_norm)
        self._attention = attention

    def steps(self, grid: Grid) -> int:
        """How many steps `run` takes."""
        return len(grid.rows) if self._divisible else 1

    @property
    def _divisible(self) -> bool:
        return not self._attention.fused_projections

    def run(
        self, source: FeatureMap, sweep: Sweep, statistics: GroupStatistics | None
    ) -> FeatureMap:
        """Compute the output map."""
        grid = source.grid
        target = FeatureMap(grid, sweep.storage, statistics)
        whole = everything(grid)
        if not self._divisible or len(grid.rows) == 1:
            sweep.step()
            target.write(whole, self._attention(sweep.read(source, whole)))
            return target
        assert source.statistics is not None
        affine = source.statistics.affine()
        tokens = (
            normalise(sweep.read(source, whole), affine).flatten(2).transpose(1, 2).contiguous()
        )
        for rows in grid.rows:
            sweep.step()
            region = Region(rows, whole.columns)
            target.write(region, self._attend(sweep.read(source, region), tokens, affine))
        return target

    def _attend(self, queries: Tensor, tokens: Tensor, affine: tuple[Tensor, Tensor]) -> Tensor:
        """Call the attention on some of the pixels, with the statistics of all of them."""
        scale, shift = (part.flatten(2) for part in affine)

        def replace(_norm: nn.Module, inputs: tuple[Tensor], _output: Tensor) -> Tensor:
            return normalise(inputs[0], (scale, shift))

        handle = self._attention.group_norm.register_forward_hook(replace)
        try:
            attended: Tensor = self._attention(queries.contiguous(), encoder_hidden_states=tokens)
            return attended
        finally:
            handle.remove()


def _chain(source: FeatureMap, modules: Sequence[nn.Module]) -> Callable[[Tensor], Tensor]:
    """Norm, if `source` carries statistics, then `modules`: on a window of `source`."""
    affine = None if source.statistics is None else source.statistics.affine()

    def compute(values: Tensor) -> Tensor:
        if affine is not None:
            values = normalise(values, affine)
        for module in modules:
            values = module(values)
        return values

    return compute
