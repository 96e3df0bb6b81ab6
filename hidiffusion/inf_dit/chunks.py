"""Where chunks of blocks lie, in which order they are computed, and what one leaves to the next.

A block attends to itself, its left, its upper and its left-upper neighbour, so any order that
respects those three gives the same picture. Chunks are scanned along the shorter side, because
what has to be kept between two lines of chunks is one line of blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chunk:
    """A rectangle of blocks: rows `top` to `bottom`, columns `left` to `right`, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def rows(self) -> int:
        """How many block rows."""
        return self.bottom - self.top

    @property
    def columns(self) -> int:
        """How many block columns."""
        return self.right - self.left

    def crop(self, picture: Tensor, side: int) -> Tensor:
        """Return the chunk's part of `[..., H, W]`, where a block has `side` pixels a side."""
        rows = slice(self.top * side, self.bottom * side)
        return picture[..., rows, self.left * side : self.right * side]


@dataclass(frozen=True)
class Scan:
    """The chunks of a picture, in the order in which they are computed.

    Attributes:
        rows: block rows of the picture.
        columns: block columns of the picture.
        side: blocks along a chunk's side; the last chunks of a row or column may be smaller.
    """

    rows: int
    columns: int
    side: int

    @property
    def by_columns(self) -> bool:
        """Whether a line of chunks is a column: where the picture is wider than high."""
        return self.rows < self.columns

    @property
    def count(self) -> int:
        """Number of chunks."""
        return -(-self.rows // self.side) * -(-self.columns // self.side)

    def __iter__(self) -> Iterator[Chunk]:
        tops, lefts = range(0, self.rows, self.side), range(0, self.columns, self.side)
        corners = (
            ((top, left) for left in lefts for top in tops)
            if self.by_columns
            else ((top, left) for top in tops for left in lefts)
        )
        for top, left in corners:
            yield Chunk(
                top,
                min(top + self.side, self.rows),
                left,
                min(left + self.side, self.columns),
            )


@dataclass
class Edges:
    """Keys and values along the border of what is already computed, for one attention layer.

    Holds one line of blocks along the shorter side, and the border between the last chunk and the
    next one of its line. Feed it the chunks of one evaluation in the order of `scan`.

    Attributes:
        scan: the order of the chunks.
    """

    scan: Scan
    _line: Tensor | None = field(default=None, repr=False)
    _side: Tensor | None = field(default=None, repr=False)
    _corner: Tensor | None = field(default=None, repr=False)

    def surround(self, chunk: Chunk, blocks: Tensor) -> Tensor:
        """Add the row above and the column on the left to a chunk, and remember its own.

        At the picture's border the border blocks are repeated, as the network was trained.

        Args:
            chunk: where the blocks lie.
            blocks: `[rows, columns, ...]`, one entry a block.

        Returns:
            `[rows + 1, columns + 1, ...]`.
        """
        if self.scan.by_columns:
            turned = Chunk(chunk.left, chunk.right, chunk.top, chunk.bottom)
            return self._surround(turned, blocks.transpose(0, 1), self.scan.rows).transpose(0, 1)
        return self._surround(chunk, blocks, self.scan.columns)

    def _surround(self, chunk: Chunk, blocks: Tensor, length: int) -> Tensor:
        """The same for lines of chunks that are rows of `length` blocks."""
        first = chunk.left == 0
        beside = blocks[:, :1] if first else _known(self._side)
        if chunk.top == 0:
            above, corner = blocks[:1], beside[:1]
        else:
            line = _known(self._line)
            above = line[:, chunk.left : chunk.right]
            corner = line[:, :1] if first else _known(self._corner)
        upper = torch.cat([corner, above], 1)
        whole = torch.cat([upper, torch.cat([beside, blocks], 1)], 0)
        self._remember(chunk, whole, length)
        return whole

    def _remember(self, chunk: Chunk, whole: Tensor, length: int) -> None:
        last_row, last_line = chunk.bottom == self.scan_lines, chunk.right == length
        self._corner = None if last_line else whole[:1, -1:].clone()
        self._side = None if last_line else whole[1:, -1:].clone()
        if last_row:
            return
        if self._line is None:
            self._line = whole.new_empty(1, length, *whole.shape[2:])
        self._line[:, chunk.left : chunk.right] = whole[-1:, 1:]

    @property
    def scan_lines(self) -> int:
        """How many blocks the picture has across the lines of the scan."""
        return self.scan.columns if self.scan.by_columns else self.scan.rows


def _known(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise RuntimeError("chunks must come in the order of the scan, each once")
    return tensor


@dataclass
class Evaluation:
    """What one pass of the network over a picture keeps from chunk to chunk.

    Attributes:
        scan: the order in which the chunks must come.
        edges: one a layer.
        rope_wrap: whether positions start again at the length of the trained table.
    """

    scan: Scan
    edges: list[Edges]
    rope_wrap: bool = True
