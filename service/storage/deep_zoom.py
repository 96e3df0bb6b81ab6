"""The levels of a Deep Zoom pyramid: how each is cut into tiles, and which tiles are whole.

Deep Zoom: level 0 is one pixel, each level doubles the one before, the last is the picture. Tiles
lie on a regular grid and show `overlap` pixels of each neighbour; a tile is named by its level,
column and row.
"""

import numpy as np
from numpy.typing import NDArray

from service.domain.artifacts import Pyramid, PyramidLevel, TileFormat

Pixels = NDArray[np.uint8]


def deep_zoom(
    width: int, height: int, tile_size: int, overlap: int, tile_format: TileFormat = "png"
) -> Pyramid:
    """Lay out the pyramid of a picture: each level half the next, rounded up, down to one pixel.

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        tile_size: side of a tile without its overlap; even, so that tiles halve into whole pixels.
        overlap: pixels a tile shows of each neighbour.
        tile_format: how tiles are encoded.

    Raises:
        ValueError: a measure is out of range.
    """
    if width < 1 or height < 1:
        raise ValueError(f"a picture of {width!r}x{height!r} pixels has no pyramid; use 1 or more")
    if tile_size < 2 or tile_size % 2 or not 0 <= overlap < tile_size:
        raise ValueError(
            f"tile size {tile_size!r} and overlap {overlap!r} make no pyramid; "
            "use an even tile size and an overlap from 0 to below it"
        )
    last = (max(width, height) - 1).bit_length()
    levels = []
    for level in range(last + 1):
        scale = 2 ** (last - level)
        level_width, level_height = -(-width // scale), -(-height // scale)
        columns, rows = -(-level_width // tile_size), -(-level_height // tile_size)
        levels.append(
            PyramidLevel(
                level=level, width=level_width, height=level_height, columns=columns, rows=rows
            )
        )
    return Pyramid(tile_size=tile_size, overlap=overlap, format=tile_format, levels=tuple(levels))


class Countdown:
    """The rectangles of a grid, and how many pixels each still waits for."""

    def __init__(self, columns: list[tuple[int, int]], rows: list[tuple[int, int]]) -> None:
        self.columns = columns
        self.rows = rows
        self._missing = {
            (column, row): (right - left) * (bottom - top)
            for row, (top, bottom) in enumerate(rows)
            for column, (left, right) in enumerate(columns)
        }

    def cover(self, left: int, top: int, right: int, bottom: int) -> list[tuple[int, int]]:
        """Count a region in; returns (column, row) of each rectangle that is now complete."""
        complete = []
        for row, shared_rows in _shared(self.rows, top, bottom):
            for column, shared_columns in _shared(self.columns, left, right):
                self._missing[column, row] -= shared_columns * shared_rows
                if self._missing[column, row] == 0:
                    complete.append((column, row))
        return complete


class Level:
    """The pixels of one level, the tiles that show them and the cells that the tiles stand on."""

    def __init__(self, level: PyramidLevel, pyramid: Pyramid) -> None:
        width, height, size = level.width, level.height, pyramid.tile_size
        self.pixels = np.empty((height, width, 3), np.uint8)
        self.tiles = Countdown(
            _spans(width, size, pyramid.overlap), _spans(height, size, pyramid.overlap)
        )
        self.cells = Countdown(_spans(width, size, 0), _spans(height, size, 0))

    def place(
        self, left: int, top: int, pixels: Pixels
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Copy a region in; returns the tiles and the cells that it completes."""
        right, bottom = left + pixels.shape[1], top + pixels.shape[0]
        self.pixels[top:bottom, left:right] = pixels
        box = (left, top, right, bottom)
        return self.tiles.cover(*box), self.cells.cover(*box)

    def halved_cell(self, column: int, row: int) -> tuple[int, int, Pixels]:
        """Left, top and pixels of what a cell becomes in the level above."""
        left, right = self.cells.columns[column]
        top, bottom = self.cells.rows[row]
        return left // 2, top // 2, _halve(self.pixels[top:bottom, left:right])


def _spans(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Start and stop of each tile along one axis, overlap included."""
    return [
        (max(start - overlap, 0), min(start + size + overlap, length))
        for start in range(0, length, size)
    ]


def _shared(spans: list[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    """Index and length of what each span has in common with `start` to `stop`, if anything."""
    common = [(i, min(stop, last) - max(start, first)) for i, (first, last) in enumerate(spans)]
    return [(i, length) for i, length in common if length > 0]


def _halve(pixels: Pixels) -> Pixels:
    """Average each 2x2 square, rounding halves up; an odd last row or column counts twice."""
    height, width, _ = pixels.shape
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(np.uint16)
    total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)
