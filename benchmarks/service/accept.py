"""What durability costs: accepting a generation and recording an event, by Redis's `appendfsync`.

    python -m benchmarks.service.accept --write

Each policy gets a Redis of its own in one folder on the same disk; they are measured in turn, in
rounds, so that a slow moment of the disk meets all of them. `none` keeps no file: the rival that
loses everything. Prints a table for people and JSON as its last line.
"""

import argparse
import contextlib
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.service.result import report, where
from service.events.connection import connect
from service.records.records import RedisRecords
from service.settings import RedisSettings
from tests.generations import make_generation, now, step
from tests.servers import RedisServer

RESULT = Path(__file__).parents[1] / "results" / "accept.json"
POLICIES = ("none", "no", "everysec", "always")


def measure(rounds: int, batch: int) -> dict[str, Any]:
    """Milliseconds of both writes under each policy: median and 95th percentile."""
    accepts: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    records: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    with contextlib.ExitStack() as stack:
        desks = {policy: _desk(policy, stack) for policy in POLICIES}
        for _ in range(rounds):
            for policy, desk in desks.items():
                for _ in range(batch):
                    generation = make_generation()
                    accepts[policy].append(_timed(partial(desk.accept, generation, None)))
                    desk.begin_attempt(generation.id, "worker", now())
                    event = step(1)
                    records[policy].append(_timed(partial(desk.record, generation.id, event)))
    return {
        "samples": rounds * batch,
        "accept_ms": {policy: _figures(accepts[policy]) for policy in POLICIES},
        "record_ms": {policy: _figures(records[policy]) for policy in POLICIES},
        **where(),
    }


def _desk(policy: str, stack: contextlib.ExitStack) -> RedisRecords:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = RedisServer(folder, append_only=policy != "none", fsync=policy)
    server.start()
    stack.callback(server.stop, signal.SIGKILL)
    return RedisRecords(connect(server.url), RedisSettings(url=server.url))


def _timed(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - begin)


def _figures(milliseconds: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(milliseconds), 2),
        "p95": round(statistics.quantiles(milliseconds, n=20)[-1], 2),
    }


def main() -> None:
    """Measure, print and, if asked to, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service.accept", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT}")
    options = parser.parse_args()
    result = measure(options.rounds, options.batch)
    print("| appendfsync | accept, ms (p95) | of none | record an event, ms (p95) |")
    print("| --- | ---: | ---: | ---: |")
    for policy in POLICIES:
        accept, record = result["accept_ms"][policy], result["record_ms"][policy]
        ratio = accept["median"] / result["accept_ms"]["none"]["median"]
        print(
            f"| {policy} | {accept['median']} ({accept['p95']}) | {ratio:.2f} "
            f"| {record['median']} ({record['p95']}) |"
        )
    report(result, RESULT, write=options.write)


if __name__ == "__main__":
    main()
