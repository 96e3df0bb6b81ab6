"""A played worker that makes a real picture, and stops half-way for as long as a test wants."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime

from PIL import Image, ImageDraw

from service.domain.artifacts import MEDIA_TYPES, ArtifactKeys, Pyramid, PyramidLevel, TileRef
from service.domain.generations.events import TileStored
from service.domain.generations.generation import Generation
from service.storage.deep_zoom import deep_zoom
from tests.service.api.played_worker import PlayedWorker

#: Every fourth of a picture has its own colour, so that pixels tell which tiles are there.
QUARTERS = ((214, 84, 70), (244, 190, 92), (72, 148, 128), (60, 92, 158))
_DARKER_WHEN_DIRECT = 0.5


def picture_of(generation: Generation) -> Image.Image:
    """A picture that depends on its size and method alone."""
    request = generation.request
    shade = _DARKER_WHEN_DIRECT if request.method == "direct" else 1
    picture = Image.new("RGB", (request.width, request.height))
    draw = ImageDraw.Draw(picture)
    half = (request.width // 2, request.height // 2)
    for number, colour in enumerate(QUARTERS):
        left, top = (number % 2) * half[0], (number // 2) * half[1]
        fill = tuple(round(channel * shade) for channel in colour)
        draw.rectangle((left, top, left + half[0], top + half[1]), fill=fill)
    return picture


class Painter:
    """One attempt of a played worker, tile by tile: the finest level first, from the top."""

    def __init__(self, worker: PlayedWorker, generation_id: str, tile_size: int = 512) -> None:
        self._worker = worker
        self.generation = worker.start(generation_id)
        self.picture = picture_of(self.generation)
        self.pyramid = deep_zoom(*self.picture.size, tile_size, overlap=1)
        self._levels = [
            self.picture.resize((level.width, level.height), Image.Resampling.BOX)
            for level in self.pyramid.levels
        ]
        self._tiles = _tiles(self.pyramid) if self.generation.request.tiles else []
        self._left = iter(enumerate(self._tiles, 1))

    def step(self, step: int, total: int) -> None:
        """Tell of a denoising step."""
        self._worker.step(self.generation, step, total)

    def preview(self, step: int) -> None:
        """Store a small, grey picture of the whole and tell of it."""
        small = self.picture.resize((64, 64)).convert("L").convert("RGB")
        self._worker.preview(self.generation, step, _encoded(small, "JPEG"))

    def land(self, count: int) -> None:
        """Store the next tiles and tell of them."""
        for _ in range(count):
            self._land(*next(self._left))

    def finish(self) -> None:
        """Store what is left, and tell of success."""
        for number, tile in self._left:
            self._land(number, tile)
        image = _encoded(self.picture, "PNG")
        thumbnail = _encoded(self.picture.resize((128, 128)), "JPEG")
        self._worker.succeed(self.generation, image, thumbnail, self.pyramid)

    def _land(self, done: int, tile: tuple[PyramidLevel, int, int]) -> None:
        level, column, row = tile
        size, overlap = self.pyramid.tile_size, self.pyramid.overlap
        left, top = max(column * size - overlap, 0), max(row * size - overlap, 0)
        right = min((column + 1) * size + overlap, level.width)
        bottom = min((row + 1) * size + overlap, level.height)
        pixels = self._levels[level.level].crop((left, top, right, bottom))
        keys = ArtifactKeys(self.generation.id, self.generation.attempt)
        key = keys.tile(level.level, column, row, self.pyramid.format)
        self._worker.store.put(key, _encoded(pixels, "PNG"), MEDIA_TYPES[self.pyramid.format])
        ref = TileRef(
            level=level.level,
            column=column,
            row=row,
            left=left,
            top=top,
            width=right - left,
            height=bottom - top,
            key=key,
        )
        event = TileStored(
            attempt=self.generation.attempt,
            at=datetime.now(UTC),
            tile=ref,
            done=done,
            total=len(self._tiles),
        )
        self._worker.record(self.generation, event)


def _tiles(pyramid: Pyramid) -> list[tuple[PyramidLevel, int, int]]:
    def all_tiles() -> Iterator[tuple[PyramidLevel, int, int]]:
        for level in reversed(pyramid.levels):
            for row in range(level.rows):
                for column in range(level.columns):
                    yield level, column, row

    return list(all_tiles())


def _encoded(picture: Image.Image, picture_format: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, picture_format)
    return stream.getvalue()
