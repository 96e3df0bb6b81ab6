"""Clients that watch: does each see every event once and in order, how soon, and at what cost."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from statistics import median, quantiles
from typing import Any

from benchmarks.load.processes import Helper, helpers
from benchmarks.load.stage import Stage
from service.domain.artifacts import TileRef
from service.domain.generations.events import Event, Stepped, Succeeded, TileStored
from service.domain.generations.generation import Generation
from service.events.connection import connect
from service.events.stream import events_key
from service.records.records import RedisRecords
from service.settings import RedisSettings
from tests.generations import make_manifest

#: Of one generation, besides `queued`, `started` and `succeeded`.
STEPS, TILES = 50, 16


class PlayedWorkers:
    """Write what workers would write of generations they draw, all at the same time."""

    def __init__(self, stage: Stage) -> None:
        settings = RedisSettings(url=stage.redis_url)
        self._records = RedisRecords(connect(stage.redis_url), settings)

    def play(self, ids: Sequence[str], per_second: float) -> dict[str, list[float]]:
        """Times before each write, by generation; `per_second` of them together, 0: no pause."""
        running = [self._begun(each) for each in ids]
        written = {each.id: [time.monotonic()] for each in running}
        runs = [(each, _events(each)) for each in running]
        began, count = time.monotonic(), 0
        for _ in range(STEPS + TILES + 1):
            for generation, events in runs:
                if per_second:
                    time.sleep(max(0.0, began + count / per_second - time.monotonic()))
                event = next(events)
                written[generation.id].append(time.monotonic())
                assert self._records.record(generation.id, event)
                count += 1
        return written

    def _begun(self, generation_id: str) -> Generation:
        generation = self._records.begin_attempt(generation_id, "played", datetime.now(UTC))
        assert generation is not None
        return generation


def _events(generation: Generation) -> Iterator[Event]:
    common: dict[str, Any] = {"attempt": generation.attempt, "at": generation.created_at}
    for step in range(1, STEPS + 1):
        yield Stepped(**common, step=step, total=STEPS, eta_seconds=1.0)
    for column in range(TILES):
        tile = TileRef(
            level=10, column=column, row=0, left=512 * column, top=0, width=512, height=512,
            key=f"generations/{generation.id}/1/tiles/10/{column}_0.jpeg",
        )  # fmt: skip
        yield TileStored(**common, tile=tile, done=column + 1, total=TILES)
    yield Succeeded(**common, manifest=make_manifest(generation, generation.attempt))


def watching(stage: Stage, watchers: int, generations: int, per_second: float) -> dict[str, Any]:
    """So many watchers of each kind over so many generations, and what became of them.

    Args:
        stage: the API and Redis.
        watchers: of server-sent events, and as many of gRPC's.
        generations: watched by the same number of each.
        per_second: events written, of all generations together; 0: as fast as Redis takes them.
    """
    ids = [stage.accept() for _ in range(generations)]
    common = ("--watchers", str(watchers), "--ids", *ids)
    levels = [_levels(stage)]
    with helpers("watcher", ("sse", stage.http_address, *common)) as (sse,):
        levels.append(_levels(stage))
        with helpers("watcher", ("grpc", stage.grpc_address, *common)) as (grpc,):
            levels.append(_levels(stage))
            watched: tuple[Stage | Helper, ...] = (stage, sse, grpc)
            cpu, began = [each.cpu_seconds() for each in watched], time.monotonic()
            written = PlayedWorkers(stage).play(ids, per_second)
            seen = {"sse": sse.result(), "grpc": grpc.result()}
            spent = [each.cpu_seconds() - at for each, at in zip(watched, cpu, strict=True)]
    wall = max(one["times"][-1] for each in seen.values() for one in each) - began
    truth = {each: [entry for entry, _ in stage.redis.xrange(events_key(each))] for each in ids}
    delivered = sum(len(one["times"]) - 1 for each in seen.values() for one in each)
    return {
        "watchers_of_each_kind": watchers,
        "generations": generations,
        "events_of_each_generation": STEPS + TILES + 3,
        "written_per_second": round(generations * (STEPS + TILES + 2) / _length(written), 1),
        "delivered_per_second": round(delivered / wall, 1),
        "api_cores": round(spent[0] / wall, 2),
        "api_ms_per_delivery": round(1000 * spent[0] / delivered, 3),
        "api_memory_mib": [round(level["memory_bytes"] / 2**20, 1) for level in levels],
        "redis_connections": [level["redis_connections"] for level in levels],
        **{
            kind: {
                "wrong": sum(one["ids"] != truth[one["generation"]] for one in seen[kind]),
                "memory_kib": round(_growth(levels[at : at + 2]) / watchers / 1024, 1),
                "generator_cores": round(spent[at + 1] / wall, 2),
                **_delays(seen[kind], written),
            }
            for at, kind in enumerate(seen)
        },
    }


def _levels(stage: Stage) -> dict[str, int]:
    return {
        "memory_bytes": stage.memory_bytes(),
        "redis_connections": stage.redis_connections(),
    }


def _growth(levels: Sequence[dict[str, int]]) -> int:
    return levels[1]["memory_bytes"] - levels[0]["memory_bytes"]


def _length(written: dict[str, list[float]]) -> float:
    times = [each for one in written.values() for each in one]
    return max(times) - min(times)


def _delays(seen: list[dict[str, Any]], written: dict[str, list[float]]) -> dict[str, float]:
    """Milliseconds from a write to any watcher, and to the last that hears of it.

    The first event, `queued`, was written before anybody watched.
    """
    delays: list[float] = []
    last: dict[tuple[str, int], float] = {}
    for one in seen:
        for number, (wrote, came) in enumerate(
            zip(written[one["generation"]], one["times"][1:], strict=False)
        ):
            delays.append(1000 * (came - wrote))
            event = (one["generation"], number)
            last[event] = max(last.get(event, 0.0), delays[-1])
    slowest = list(last.values())
    return {
        "p50_ms": round(median(delays), 1),
        "p99_ms": round(quantiles(delays, n=100)[-1], 1),
        "last_p50_ms": round(median(slowest), 1),
        "last_p99_ms": round(quantiles(slowest, n=100)[-1], 1),
    }
