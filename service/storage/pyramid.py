"""A Deep Zoom pyramid that is written while its picture is still being made.

Regions of the full-size picture come in any order. A tile is cut, encoded and stored as soon as
its last pixel is there, on threads of the writer's own; a square of four neighbouring tiles is
halved into the level above, and so on up to the single pixel of level 0.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Self

from service import tracing
from service.application.ports import ObjectStore
from service.domain.artifacts import MEDIA_TYPES, ArtifactKeys, Pyramid, TileRef
from service.storage.deep_zoom import Level, Pixels
from service.storage.encode import encode

#: Called after a tile is stored, with the number of tiles stored so far and in all.
TileStoredCallback = Callable[[TileRef, int, int], None]


class PyramidWriter:
    """Writes the tiles of one picture; use it in a `with` block and call `finish` at its end.

    Leaving the block by an exception drops what is not yet encoded. At most `backlog` regions and
    tiles wait for a thread: `add` blocks until there is room, so a slow store slows the decoder
    down instead of filling the memory. The pixels of all levels are kept, 4 bytes per pixel of
    the picture. Where nobody hears of tiles, the levels are put together and none is stored.
    """

    def __init__(
        self,
        store: ObjectStore,
        keys: ArtifactKeys,
        pyramid: Pyramid,
        on_tile: TileStoredCallback | None,
        *,
        threads: int = 2,
        backlog: int = 16,
    ) -> None:
        self.pyramid = pyramid
        self._store = store
        self._keys = keys
        self._on_tile = on_tile
        self._levels = [Level(level, pyramid) for level in pyramid.levels]
        self._total = sum(level.columns * level.rows for level in pyramid.levels)
        self._done = 0
        self.stored_bytes = 0
        self._placing = threading.Lock()
        self._telling = threading.Lock()
        self._work = _BoundedWork(threads, backlog)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._work.stop()

    def add(self, left: int, top: int, pixels: Pixels) -> None:
        """Hand in a region of the full-size picture; regions must not overlap.

        Args:
            left: column of the region's left edge.
            top: row of its upper edge.
            pixels: `[height, width, 3]`, uint8; not to be changed afterwards.

        Raises:
            Exception: whatever an earlier tile met while it was encoded or stored.
        """
        self._work.wait_for_room()
        self._work.submit(self._place, len(self._levels) - 1, left, top, pixels)

    def finish(self) -> None:
        """Return when every tile of every level is stored.

        Raises:
            Exception: whatever a tile met while it was encoded or stored.
            ValueError: parts of the picture were never handed in.
        """
        self._work.wait_until_done()
        if self._done != self._total:
            raise ValueError(
                f"only {self._done} of {self._total} tiles are complete; "
                "hand in regions that cover the picture once"
            )

    def pixels(self, level: int) -> Pixels:
        """The pixels of one level, `[height, width, 3]`, whole once `finish` has returned."""
        return self._levels[level].pixels

    def _place(self, number: int, left: int, top: int, pixels: Pixels) -> None:
        """Put a region into its level and what it completes into the levels above."""
        level = self._levels[number]
        with self._placing:
            tiles, cells = level.place(left, top, pixels)
        for column, row in tiles:
            self._work.submit(self._write, number, column, row)
        if number:
            for column, row in cells:
                self._place(number - 1, *level.halved_cell(column, row))

    def _write(self, number: int, column: int, row: int) -> None:
        if self._on_tile is None:
            with self._telling:
                self._done += 1
            return
        level, tile_format = self._levels[number], self.pyramid.format
        left, right = level.tiles.columns[column]
        top, bottom = level.tiles.rows[row]
        key = self._keys.tile(number, column, row, tile_format)
        with tracing.span("tile", None, {"level": number, "column": column, "row": row}):
            encoded = encode(level.pixels[top:bottom, left:right], tile_format)
            self._store.put(key, encoded, MEDIA_TYPES[tile_format])
        tile = TileRef(
            level=number,
            column=column,
            row=row,
            left=left,
            top=top,
            width=right - left,
            height=bottom - top,
            key=key,
        )
        with self._telling:
            self._done += 1
            self.stored_bytes += len(encoded)
            self._on_tile(tile, self._done, self._total)


class _BoundedWork:
    """Tasks on a few threads, in the contexts of those who submit them.

    The first error stops the rest and reaches whoever waits.
    """

    def __init__(self, threads: int, backlog: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tiles")
        self._backlog = backlog
        self._changed = threading.Condition()
        self._pending = 0
        self._error: BaseException | None = None

    def submit(self, task: Callable[..., None], *args: object) -> None:
        with self._changed:
            self._pending += 1
        self._pool.submit(copy_context().run, self._run, task, *args)

    def wait_for_room(self) -> None:
        self._wait_below(self._backlog)

    def wait_until_done(self) -> None:
        self._wait_below(1)

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _wait_below(self, limit: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._pending < limit)
            if self._error is not None:
                raise self._error

    def _run(self, task: Callable[..., None], *args: object) -> None:
        try:
            if self._error is None:
                task(*args)
        except BaseException as error:  # a panic in Rust is no Exception
            self._error = self._error or error
        finally:
            with self._changed:
                self._pending -= 1
                self._changed.notify_all()
