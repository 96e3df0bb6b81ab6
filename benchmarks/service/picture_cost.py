"""What one picture costs Redis from its acceptance to its end.

    python -m benchmarks.service.picture_cost --write

A real Redis with `appendonly yes` and `appendfsync always`; the part of the worker is played: every
step, preview and tile of a picture of 4096x4096 in 50 steps is recorded as the service records it.
Told are writes, milliseconds of Redis's main thread, bytes in its memory and in the append-only
file. Prints a table for people and JSON as its last line.
"""

import argparse
import json
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.domain.artifacts import (
    ArtifactKeys,
    ArtifactRef,
    Manifest,
    Pyramid,
    PyramidLevel,
    TileRef,
)
from service.domain.generations.events import Previewed, Stepped, Succeeded, TileStored
from service.events.connection import TextClient, connect
from service.events.stream import events_key
from service.records.records import RedisRecords
from service.settings import RedisSettings
from tests.generations import make_generation
from tests.servers import redis_server

RESULTS = Path(__file__).parents[1] / "results"
SIZE, TILE, STEPS, PREVIEWS = 4096, 512, 50, 11


def _levels() -> tuple[PyramidLevel, ...]:
    top = SIZE.bit_length() - 1
    sides = [(level, 2**level, -(-(2**level) // TILE)) for level in range(top + 1)]
    return tuple(
        PyramidLevel(level=level, width=side, height=side, columns=count, rows=count)
        for level, side, count in sides
    )


def _draw(records: RedisRecords, generation_id: str, levels: tuple[PyramidLevel, ...]) -> int:
    """Record a whole picture; returns the writes."""
    records.begin_attempt(generation_id, "worker", datetime.now(UTC))
    keys = ArtifactKeys(generation_id, 1)
    common: dict[str, Any] = {"attempt": 1, "at": datetime.now(UTC)}
    events: list[Any] = [
        Stepped(**common, step=step, total=STEPS, eta_seconds=10.0) for step in range(1, STEPS + 1)
    ]
    events += [
        Previewed(**common, step=step, key=keys.preview(step), width=512, height=512)
        for step in range(PREVIEWS)
    ]
    tiles = [
        TileRef(
            level=level.level,
            column=column,
            row=row,
            left=column * TILE,
            top=row * TILE,
            width=TILE + 1,
            height=TILE + 1,
            key=keys.tile(level.level, column, row, "png"),
        )
        for level in levels
        for column in range(level.columns)
        for row in range(level.rows)
    ]
    events += [
        TileStored(**common, tile=tile, done=done, total=len(tiles))
        for done, tile in enumerate(tiles, 1)
    ]
    image = ArtifactRef(key=keys.image("png"), media_type="image/png", bytes=2**25, sha256="0" * 64)
    manifest = Manifest(
        generation_id=generation_id,
        attempt=1,
        width=SIZE,
        height=SIZE,
        image=image,
        thumbnail=image.model_copy(update={"key": keys.thumbnail}),
        pyramid=Pyramid(tile_size=TILE, overlap=1, format="png", levels=levels),
        recipe={"versions": {"torch": "2.13.0"}},
        created_at=datetime.now(UTC),
    )
    for event in (*events, Succeeded(**common, manifest=manifest)):
        assert records.record(generation_id, event)
    return len(events) + 3


def _figures(client: TextClient) -> tuple[float, int, int]:
    info = client.info("all")
    busy = info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"]
    return busy * 1000, info["used_memory"], info["aof_current_size"]


def measure(pictures: int) -> dict[str, float]:
    """Figures for each picture, of so many after the first."""
    levels = _levels()
    with tempfile.TemporaryDirectory() as folder:  # noqa: SIM117
        with redis_server(Path(folder), append_only=True) as server:
            client = connect(server.url)
            records = RedisRecords(client, RedisSettings())
            _draw(records, records.accept(make_generation(size=SIZE), None).id, levels)
            before, writes, ids = _figures(client), 0, []
            for _ in range(pictures):
                ids.append(records.accept(make_generation(size=SIZE), None).id)
                writes += _draw(records, ids[-1], levels)
            after = _figures(client)
            client.delete(*map(events_key, ids))
            later = client.info("memory")["used_memory"]
            client.close()
    each = {
        "writes": writes,
        "redis_ms": after[0] - before[0],
        "bytes_with_events": after[1] - before[1],
        "bytes_of_record": later - before[1],
        "append_only_bytes": after[2] - before[2],
    }
    return {name: value / pictures for name, value in each.items()}


def main() -> None:
    """Measure, print and perhaps keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    result = {
        **measure(options.pictures),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load_average": os.getloadavg()[0],
    }
    for name, value in result.items():
        print(f"{name:20}", value if isinstance(value, str) else f"{value:.2f}")
    text = json.dumps(result)
    if options.write:
        (RESULTS / "picture-cost.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
