"""Where tiles lie, and what each of them has to see: pure arithmetic on rows and columns.

A picture is cut into rows and columns once, on its latents. The same cuts, scaled, divide every
feature map between latents and pixels, so a tile keeps covering the same part of the picture.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

#: Every convolution of AutoencoderKL that sees its neighbours is 3x3: it looks one pixel far.
HALO = 1


@dataclass(frozen=True)
class Span:
    """Rows or columns `start` to `stop`, the latter not included."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many rows or columns."""
        return self.stop - self.start


@dataclass(frozen=True)
class Region:
    """A rectangle of a feature map or of the picture."""

    rows: Span
    columns: Span


@dataclass(frozen=True)
class View:
    """What to read of one axis of the input, and which part of the result to keep."""

    window: Span
    crop: slice


#: Says whether a region of the output is to be computed.
Wanted = Callable[[Region], bool]


class Reach(enum.Enum):
    """How output rows (or columns) of a layer depend on input rows."""

    SAME = "a 3x3 convolution with padding 1"
    UPSAMPLE = "nearest-neighbour doubling, then a 3x3 convolution with padding 1"
    DOWNSAMPLE = "a 3x3 convolution with stride 2, padded by 1 behind the last row only"

    def view(self, core: Span, limit: int) -> View:
        """Find the input that decides `core` of the output along one axis.

        The window ends at the input's own border where the tile does, so that a layer pads there
        as it would on the undivided input; on all other sides the result is cropped.

        Args:
            core: output rows wanted; an even `start` for `UPSAMPLE`.
            limit: number of input rows.

        Returns:
            The input window, and the slice of the layer's result that is `core`.
        """
        if self is Reach.DOWNSAMPLE:
            window = Span(2 * core.start, min(2 * core.stop + HALO, limit))
            return View(window, slice(0, core.length))
        scale = 2 if self is Reach.UPSAMPLE else 1
        first, last = core.start // scale, -(-core.stop // scale)
        window = Span(max(first - HALO, 0), min(last + HALO, limit))
        offset = core.start - scale * window.start
        return View(window, slice(offset, offset + core.length))


@dataclass(frozen=True)
class Grid:
    """The cuts that divide a feature map into tiles.

    Attributes:
        row_cuts: ascending, from 0 to the height.
        column_cuts: ascending, from 0 to the width.
    """

    row_cuts: tuple[int, ...]
    column_cuts: tuple[int, ...]

    @classmethod
    def regular(cls, height: int, width: int, tile: int) -> Grid:
        """Cut at the multiples of `tile`; the last row and column may be smaller."""
        return cls((*range(0, height, tile), height), (*range(0, width, tile), width))

    @property
    def height(self) -> int:
        """Height of the feature map."""
        return self.row_cuts[-1]

    @property
    def width(self) -> int:
        """Width of the feature map."""
        return self.column_cuts[-1]

    @property
    def rows(self) -> list[Span]:
        """The spans between the row cuts, from the top."""
        return _spans(self.row_cuts)

    @property
    def columns(self) -> list[Span]:
        """The spans between the column cuts, from the left."""
        return _spans(self.column_cuts)

    @property
    def count(self) -> int:
        """Number of tiles; the same for all scales of one grid."""
        return (len(self.row_cuts) - 1) * (len(self.column_cuts) - 1)

    def __iter__(self) -> Iterator[Region]:
        return (Region(row, column) for row in self.rows for column in self.columns)

    def doubled(self) -> Grid:
        """The grid behind a layer that doubles height and width."""
        return self.enlarged(2, 2 * self.height, 2 * self.width)

    def halved(self) -> Grid:
        """The grid behind a layer that halves height and width, rounding down."""
        return Grid(_halves(self.row_cuts), _halves(self.column_cuts))

    def enlarged(self, factor: int, height: int, width: int) -> Grid:
        """Scale the inner cuts by `factor`; the outer ones become `height` and `width`."""
        return Grid(
            (*(factor * cut for cut in self.row_cuts[:-1]), height),
            (*(factor * cut for cut in self.column_cuts[:-1]), width),
        )


def _spans(cuts: tuple[int, ...]) -> list[Span]:
    return [Span(start, stop) for start, stop in itertools.pairwise(cuts)]


def _halves(cuts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(cut // 2 for cut in cuts)
