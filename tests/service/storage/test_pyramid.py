"""Tiles written while the picture arrives, against libvips' own Deep Zoom writer."""

import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.application.ports import ObjectInfo, ObjectStore
from service.domain.artifacts import ArtifactKeys, Pyramid, TileRef
from service.domain.errors import StoreError
from service.settings import StoreSettings
from service.storage.deep_zoom import Pixels, deep_zoom
from service.storage.pyramid import PyramidWriter
from service.storage.store import open_store

KEYS = ArtifactKeys("01J", 1)
Region = tuple[int, int, Pixels]


def _picture(width: int, height: int) -> Pixels:
    return np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)


def _regions(picture: Pixels, size: int) -> Iterator[Region]:
    for top in range(0, picture.shape[0], size):
        for left in range(0, picture.shape[1], size):
            yield left, top, picture[top : top + size, left : left + size]


def _write(
    store: ObjectStore, picture: Pixels, regions: list[Region], tile_size: int, overlap: int
) -> tuple[Pyramid, list[tuple[TileRef, int, int]]]:
    pyramid = deep_zoom(picture.shape[1], picture.shape[0], tile_size, overlap)
    told: list[tuple[TileRef, int, int]] = []
    with PyramidWriter(store, KEYS, pyramid, lambda *tile: told.append(tile)) as writer:
        for region in regions:
            writer.add(*region)
        writer.finish()
        assert np.array_equal(writer.pixels(len(pyramid.levels) - 1), picture)
    return pyramid, told


def _decoded(store: ObjectStore, key: str) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(store.get(key))))


@pytest.mark.parametrize(
    ("width", "height", "tile_size", "overlap", "region"),
    [
        (256, 256, 64, 1, 64),
        (300, 200, 64, 1, 40),
        (200, 333, 64, 0, 200),
        (129, 65, 32, 3, 17),
        (1, 1, 64, 1, 1),
        (1, 90, 16, 1, 7),
        (128, 128, 512, 1, 128),
    ],
)
def test_every_tile_is_that_of_libvips(
    memory: ObjectStore,
    tmp_path: Path,
    *,
    width: int,
    height: int,
    tile_size: int,
    overlap: int,
    region: int,
) -> None:
    picture = _picture(width, height)
    _, told = _write(memory, picture, [*_regions(picture, region)], tile_size, overlap)

    image = pyvips.Image.new_from_memory(picture.tobytes(), width, height, 3, "uchar")
    image = image.copy(interpretation="srgb")
    image.dzsave(str(tmp_path / "tiles"), tile_size=tile_size, overlap=overlap, suffix=".png")
    reference = {
        str(path.relative_to(tmp_path)): np.asarray(Image.open(path).convert("RGB"))
        for path in tmp_path.rglob("*.png")
    }
    ours = {key.removeprefix(KEYS.prefix): _decoded(memory, key) for key in memory.keys("")}
    assert {name: tile.shape for name, tile in ours.items()} == {
        name: tile.shape for name, tile in reference.items()
    }
    for name, tile in ours.items():
        assert np.array_equal(tile, reference[name]), name
    assert len(told) == len(ours)


def test_levels_above_average_the_ones_below(memory: ObjectStore) -> None:
    picture = _picture(256, 128)
    pyramid, _ = _write(memory, picture, [*_regions(picture, 64)], 64, 1)
    for below in range(8, 0, -1):
        upper, lower = (_assembled(memory, pyramid, level) for level in (below - 1, below))
        if lower.shape[0] < 2:
            break
        height, width, _ = lower.shape
        exact = lower.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
        assert np.abs(upper - exact).max() <= 0.5


def _assembled(store: ObjectStore, pyramid: Pyramid, number: int) -> Pixels:
    level = pyramid.levels[number]
    canvas = np.zeros((level.height, level.width, 3), np.uint8)
    size, overlap = pyramid.tile_size, pyramid.overlap
    for row in range(level.rows):
        for column in range(level.columns):
            tile = _decoded(store, KEYS.tile(number, column, row, "png"))
            left = max(column * size - overlap, 0)
            top = max(row * size - overlap, 0)
            canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return canvas


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    tile_size=st.integers(8, 64).map(lambda half: 2 * half),
    overlap=st.integers(0, 3),
    region=st.integers(5, 160),
    random=st.randoms(use_true_random=False),
)
def test_tiles_reassemble_bit_exactly_in_any_order(
    *, width: int, height: int, tile_size: int, overlap: int, region: int, random: Random
) -> None:
    store = open_store(StoreSettings(url="memory:///"))
    picture = _picture(width, height)
    regions = [*_regions(picture, region)]
    random.shuffle(regions)
    pyramid, told = _write(store, picture, regions, tile_size, overlap)
    last = pyramid.levels[-1]
    assert (last.width, last.height) == (width, height)
    assert (pyramid.levels[0].width, pyramid.levels[0].height) == (1, 1)
    canvas = np.zeros_like(picture)
    for tile, _, _ in told:
        if tile.level == last.level:
            pixels = _decoded(store, tile.key)
            assert pixels.shape == (tile.height, tile.width, 3)
            canvas[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = pixels
    assert np.array_equal(canvas, picture)
    assert [done for _, done, _ in told] == [*range(1, len(told) + 1)]
    assert {total for _, _, total in told} == {len(told)}


def test_tiles_are_told_after_they_are_stored_and_before_the_picture_is_whole(
    memory: ObjectStore,
) -> None:
    picture = _picture(256, 256)
    first_told = threading.Event()

    def on_tile(tile: TileRef, *_: int) -> None:
        assert memory.head(tile.key).size > 0
        first_told.set()

    with PyramidWriter(memory, KEYS, deep_zoom(256, 256, 64, 1), on_tile) as writer:
        regions = [*_regions(picture, 128)]
        for region in regions[:-1]:
            writer.add(*region)
        assert first_told.wait(10)
        writer.add(*regions[-1])
        writer.finish()


class _Gate:
    """A store whose writes wait until the gate opens, or fail."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.open = threading.Event()
        self.error: BaseException | None = None

    def put(self, key: str, data: bytes, media_type: str) -> ObjectInfo:
        assert self.open.wait(10)
        if self.error:
            raise self.error
        return self._store.put(key, data, media_type)


def test_a_slow_store_holds_the_decoder_back(memory: ObjectStore) -> None:
    gate = _Gate(memory)
    picture = _picture(512, 512)
    accepted = []

    def hand_in(writer: PyramidWriter) -> None:
        for region in _regions(picture, 32):
            writer.add(*region)
            accepted.append(region)

    pyramid = deep_zoom(512, 512, 32, 0)
    with (
        PyramidWriter(gate, KEYS, pyramid, lambda *_: None, backlog=8) as writer,  # type: ignore[arg-type]
        ThreadPoolExecutor(1) as decoder,
    ):
        handing = decoder.submit(hand_in, writer)
        deadline = time.monotonic() + 30
        while len(accepted) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        assert not handing.done()
        # The backlog without waiting for the store, and at most what its regions complete.
        assert 8 <= len(accepted) <= 16
        gate.open.set()
        handing.result(10)
        writer.finish()
    assert len(accepted) == 256


class _Panic(BaseException):
    """What a library in Rust raises where it cannot go on."""


@pytest.mark.parametrize("error", [StoreError("disk full"), _Panic("disk full")])
def test_a_failed_write_stops_the_picture(memory: ObjectStore, error: BaseException) -> None:
    gate = _Gate(memory)
    gate.error = error
    gate.open.set()
    picture = _picture(256, 256)
    with pytest.raises(type(error), match="disk full"):
        _write(gate, picture, [*_regions(picture, 64)], 64, 1)  # type: ignore[arg-type]


def test_a_picture_with_a_hole_is_not_finished(memory: ObjectStore) -> None:
    picture = _picture(128, 128)
    with pytest.raises(ValueError, match="cover the picture once"):
        _write(memory, picture, [*_regions(picture, 64)][:-1], 64, 1)


@pytest.mark.parametrize(
    ("width", "height", "tile_size", "overlap"),
    [(0, 8, 64, 1), (8, -1, 64, 1), (8, 8, 63, 1), (8, 8, 0, 0), (8, 8, 64, 64), (8, 8, 64, -1)],
)
def test_impossible_measures_are_refused(
    width: int, height: int, tile_size: int, overlap: int
) -> None:
    with pytest.raises(ValueError, match="pyramid"):
        deep_zoom(width, height, tile_size, overlap)
