"""Tiles that an earlier attempt stored of the very same picture: they need not be decoded again."""

import logging

import numpy as np
import pyvips

from service.application.ports import ObjectStore
from service.domain.artifacts import ArtifactKeys, Pyramid
from service.storage.deep_zoom import Pixels

_log = logging.getLogger(__name__)

#: Formats of tiles that give back the pixels that went in.
LOSSLESS = frozenset({"png", "webp"})


class Salvage:
    """The full-size tiles of an attempt, as far as it came.

    Args:
        store: where they are.
        keys: of the attempt; it made the picture by an equal recipe.
        pyramid: whose finest level the tiles are.
    """

    def __init__(self, store: ObjectStore, keys: ArtifactKeys, pyramid: Pyramid) -> None:
        self._store = store
        self._keys = keys
        self._pyramid = pyramid
        folder = self._key(0, 0).rpartition("/")[0]
        lossless = pyramid.format in LOSSLESS
        self._there = frozenset(store.keys(f"{folder}/")) if lossless else frozenset()
        if self._there:
            _log.info("%d tiles of an earlier attempt are there", len(self._there))

    def region(self, left: int, top: int, width: int, height: int) -> Pixels | None:
        """Pixels `[height, width, 3]` of a region, or None where a tile of it is missing."""
        size = self._pyramid.tile_size
        places = [
            (column, row)
            for row in range(top // size, (top + height - 1) // size + 1)
            for column in range(left // size, (left + width - 1) // size + 1)
        ]
        if not all(self._key(*place) in self._there for place in places):
            return None
        pixels = np.empty((height, width, 3), np.uint8)
        for column, row in places:
            tile, x, y = self._tile(column, row)
            upper, lower = max(y, top), min(y + tile.shape[0], top + height)
            first, last = max(x, left), min(x + tile.shape[1], left + width)
            part = tile[upper - y : lower - y, first - x : last - x]
            pixels[upper - top : lower - top, first - left : last - left] = part
        return pixels

    def _key(self, column: int, row: int) -> str:
        level = self._pyramid.levels[-1].level
        return self._keys.tile(level, column, row, self._pyramid.format)

    def _tile(self, column: int, row: int) -> tuple[Pixels, int, int]:
        """A tile with its overlap, and the column and row of its upper left pixel."""
        data = self._store.get(self._key(column, row))
        pixels = pyvips.Image.new_from_buffer(data, "").numpy()
        size, overlap = self._pyramid.tile_size, self._pyramid.overlap
        return pixels, max(column * size - overlap, 0), max(row * size - overlap, 0)
