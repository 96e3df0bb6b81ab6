"""What each periodic task costs Redis, against workers, tenants, what waits and what is stored.

    python -m benchmarks.service.scale --write

A real Redis holds a played cluster: reports of workers, tenants with a record each, generations
that wait, results that are stored (a picture of 4096x4096 leaves 107 objects). Each task is run as
the service runs it, once it has settled, and Redis tells what that took: commands, bytes both ways,
its own processor time. The last line but one is arithmetic on these: what 1,000 GPUs take. Prints
a table for people and JSON as its last line.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.service.result import report
from service.application.generations.retention import SweepStore
from service.application.ports import WorkerInfo
from service.domain.generations.generation import Generation, Status
from service.events.connection import TextClient, connect
from service.records.attempts import Attempts
from service.records.codec import to_fields
from service.records.keys import (
    ALL,
    ENDED,
    QUEUES,
    STORED,
    STORED_UNTIL,
    index_key,
    record_key,
)
from service.records.queue.lines import join
from service.records.queue.outbox import RedisWebhooks
from service.records.records import RedisRecords
from service.records.retention import RedisRetained
from service.settings import RedisSettings
from service.supervisor.lobby import Lobby
from service.supervisor.recovery import BATCH, Recovery
from service.supervisor.routing import Rule
from service.supervisor.unplaceable import Unplaceable
from tests.generations import make_generation
from tests.servers import redis_server

RESULTS = Path(__file__).parents[1] / "results"
MODEL = "sdxl"

#: Objects of a picture of 4096x4096 in tiles of 512: 85 tiles of nine levels and more, previews,
#: picture, thumbnail and manifest.
OBJECTS = 107

#: Pictures of 4096x4096 that one GPU is taken to make in an hour.
PICTURES_AN_HOUR = 160

HEARTBEAT_SECONDS = 5.0
SWEEP_SECONDS = 600.0

WEEK_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Size:
    """How large the played cluster is."""

    workers: int = 1
    tenants: int = 0
    waiting: int = 0
    results: int = 0


class _Store:
    """Takes deletions and refuses lists."""

    def delete_prefix(self, prefix: str) -> int:
        assert prefix.count("/") >= 2
        return OBJECTS


class Cluster:
    """A played cluster in Redis, and its tasks."""

    def __init__(self, client: TextClient, size: Size) -> None:
        self._redis = client
        self._size = size
        self.records = RedisRecords(client, RedisSettings())
        self._attempts = Attempts(self.records, 3)
        self._fill()
        rule = Rule(60.0, 2.0)
        recovery = Recovery(self._attempts, 15.0)
        everywhere = Lobby(self.records, (), rule)
        unplaceable = Unplaceable(self.records, everywhere, 120.0)
        lobby = Lobby(self.records, (MODEL,), rule)
        webhooks = RedisWebhooks(client)
        sweep: Any = SweepStore(
            _Store(),  # type: ignore[arg-type]
            RedisRetained(self.records),
            budget=lambda _: None,
            grace_seconds=3600,
        )

        def scrape() -> None:
            self.records.workers()
            self.records.queue_depth(MODEL)
            self.records.unreadable()
            webhooks.figures()

        def keep_house() -> None:
            recovery.sweep()
            unplaceable.sweep()

        self.tasks: dict[str, Callable[[], object]] = {
            "heartbeat": lambda: self._attempts.report(_info("worker-0"), 20.0),
            "choosing a job": lambda: lobby.choose("worker-0", (MODEL,), {}),
            "housekeeping": keep_house,
            "sweep of the store": sweep,
            "scrape of /metrics": scrape,
        }

    def settle(self) -> None:
        """Let caches fill and one round of the audit pass."""
        total = self._size.tenants + self._size.waiting + self._size.results
        for _ in range(min(total // BATCH + 2, 5)):
            self.tasks["housekeeping"]()
        self.tasks["choosing a job"]()

    def _fill(self) -> None:
        for number in range(self._size.workers):
            self._attempts.report(_info(f"worker-{number}"), 3600.0)
        self._add(self._size.waiting, Status.QUEUED, lambda _: "")
        self._add(self._size.tenants, Status.SUCCEEDED, lambda n: f"tenant-{n}")
        self._add(self._size.results, Status.SUCCEEDED, lambda n: f"tenant-{n % 20}")

    def _add(self, count: int, status: Status, tenant_of: Callable[[int], str]) -> None:
        ends = time.time() + WEEK_SECONDS
        for start in range(0, count, 1000):
            with self._redis.pipeline(transaction=False) as pipe:
                for number in range(start, min(start + 1000, count)):
                    _write(pipe, _generation(tenant_of(number)), status, ends)
                pipe.execute()


def _write(pipe: Any, generation: Generation, status: Status, ends: float) -> None:
    fields = to_fields(generation) | {"status": status.value}
    pipe.hset(record_key(generation.id), mapping=fields)
    for owner in {"", generation.tenant}:
        pipe.zadd(index_key(ALL, owner), {generation.id: 0})
        pipe.zadd(index_key(status, owner), {generation.id: 0})
    if status is Status.QUEUED:
        pipe.rpush(f"{QUEUES}{MODEL}:normal", generation.id)
        for command in join(generation):
            pipe.execute_command(*command)
        return
    pipe.expireat(record_key(generation.id), int(ends))
    pipe.zadd(ENDED, {f"{generation.tenant}/{status.value}/{generation.id}": ends})
    for owner in {"", generation.tenant}:
        pipe.hset(STORED + owner, generation.id, 60_000_000)
        pipe.hincrby(STORED + owner, "total", 60_000_000)
        pipe.zadd(STORED_UNTIL + owner, {generation.id: ends})


def _generation(tenant: str) -> Generation:
    return make_generation("a red guitar", MODEL, size=4096).model_copy(update={"tenant": tenant})


def _info(name: str) -> WorkerInfo:
    return WorkerInfo(name, "busy", (MODEL,), (MODEL,), 1)


def cost(client: TextClient, task: Callable[[], object], repeats: int) -> dict[str, float]:
    """What one run of a task takes: commands, bytes, and milliseconds of Redis and here."""
    client.config_resetstat()
    before, began = client.info("stats"), time.perf_counter()
    for _ in range(repeats):
        task()
    seconds, after = time.perf_counter() - began, client.info("stats")
    stats = {
        name: each
        for name, each in client.info("commandstats").items()
        if name not in ("cmdstat_info", "cmdstat_config", "cmdstat_config|resetstat")
    }
    ways = ("total_net_input_bytes", "total_net_output_bytes")
    moved = sum(after[way] - before[way] for way in ways)
    return {
        "commands": sum(each["calls"] for each in stats.values()) / repeats,
        "bytes": moved / repeats,
        "redis_ms": sum(each["usec"] for each in stats.values()) / 1000 / repeats,
        "ms": seconds * 1000 / repeats,
    }


def rows(sizes: list[Size], repeats: int) -> Iterator[dict[str, Any]]:
    """Every task against every size."""
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as server:
            client = connect(server.url)
            cluster = Cluster(client, size)
            cluster.settle()
            used = client.info("memory")["used_memory"]
            found = {name: cost(client, task, repeats) for name, task in cluster.tasks.items()}
            resident = psutil.Process().memory_info().rss
            yield {
                **vars(size),
                "objects": size.results * OBJECTS,
                "tasks": found,
                "redis_bytes": used,
                "resident_bytes": resident,
            }
            client.close()
            print(_row(size, found, used, resident), flush=True)


def _row(size: Size, found: dict[str, dict[str, float]], used: int, resident: int) -> str:
    cells = [
        f"{size.workers}", f"{size.tenants:,}", f"{size.waiting:,}",
        f"{size.results * OBJECTS:,}",
        *(f"{one['commands']:.0f} / {one['bytes'] / 1000:.0f} kB / {one['redis_ms']:.2f} ms"
          for one in found.values()),
        f"{used / 1e6:.0f}", f"{resident / 1e6:.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def on_paper(found: dict[str, Any], gpus: int) -> dict[str, float]:
    """What periodic tasks of so many GPUs take of Redis's one core, in percent."""
    tasks = found["tasks"]
    return {
        "heartbeats": gpus * tasks["heartbeat"]["redis_ms"] / HEARTBEAT_SECONDS / 10,
        "housekeeping": tasks["housekeeping"]["redis_ms"] / HEARTBEAT_SECONDS / 10,
        "sweep of the store": tasks["sweep of the store"]["redis_ms"] / SWEEP_SECONDS / 10,
        "choosing jobs": gpus * PICTURES_AN_HOUR * tasks["choosing a job"]["redis_ms"] / 3600 / 10,
        "puts_per_second": gpus * PICTURES_AN_HOUR * OBJECTS / 3600,
    }


def _print_head() -> None:
    names = ["heartbeat", "choosing a job", "housekeeping", "sweep of the store", "/metrics"]
    head = ["workers", "tenants", "waiting", "objects", *names, "Redis MB", "here MB"]
    print("Of one run: commands / bytes both ways / Redis's processor time.\n")
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))


def main() -> None:
    """Measure, print and, if asked to, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--tenants", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--waiting", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--objects", type=int, nargs="+", default=[300_000, 3_000_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="keep the result in results/")
    options = parser.parse_args()
    sizes = [
        *(Size(workers=each) for each in options.workers),
        *(Size(tenants=each) for each in options.tenants),
        *(Size(waiting=each) for each in options.waiting),
        *(Size(results=each // OBJECTS) for each in options.objects),
    ]
    _print_head()
    found = list(rows(sizes, options.repeats))
    paper = on_paper(found[-1], 1000)
    print("\n1,000 GPUs, percent of Redis's one core for each: " + json.dumps(paper))
    document = {
        "rows": found,
        "thousand_gpus": paper,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load_average": os.getloadavg()[0],
    }
    report(document, RESULTS / "scale.json", write=options.write)


if __name__ == "__main__":
    main()
