"""How much one API process takes, HTTP and gRPC together: accepted jobs a second, and watchers.

    python -m benchmarks.load --write

Jobs are accepted as in production, in a Redis with an append-only file, and nobody draws them; the
rival is a loop of RQ's own `Queue.enqueue` in one process, on the same Redis, in turn. While they
are, another client reads one record 20 times a second. Then clients watch generations whose workers
are played, each on a connection of its own; every event must come once and in order.

Load is generated in processes of their own. They are no bottleneck as long as they take less than a
core ("generator, cores"). Prints tables for people and JSON as its last line.
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.load.accepting import compare
from benchmarks.load.report import report
from benchmarks.load.stage import raise_file_limit, stage
from benchmarks.load.watching import watching

RESULTS = Path(__file__).parent.parent / "results"

#: Files that a process has open besides its clients' connections.
_OTHER_FILES = 200


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for."""
    accepting = {}
    for fsync in options.fsync if options.repeats else ():
        with stage(fsync) as running:
            found = compare(running, options.clients, options.seconds, options.repeats)
        length = {"seconds": options.seconds, "repeats": options.repeats}
        accepting[fsync] = {**found, **length, "load_average": _load()}
    watched = []
    for per_second in options.events if options.watchers else ():
        with stage(options.fsync[0]) as running:
            found = watching(running, options.watchers, options.generations, per_second)
        watched.append({**found, "asked_per_second": per_second, "load_average": _load()})
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    return {"accepting": accepting, "watching": watched, "machine": machine}


def _load() -> float:
    return round(os.getloadavg()[0], 1)


def main() -> None:
    """Measure, print and, if asked to, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each run")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; 0: accept nothing")
    parser.add_argument(
        "--fsync",
        nargs="+",
        default=["always", "everysec"],
        choices=("always", "everysec", "no"),
        help="Redis's appendfsync; watchers get the first",
    )
    parser.add_argument("--watchers", type=int, default=1000, help="of each kind; 0: none")
    parser.add_argument("--generations", type=int, default=50, help="that are watched")
    parser.add_argument(
        "--events",
        type=float,
        nargs="+",
        default=[50.0, 0.0],
        help="events a second of all generations together, one run each; 0: no pause",
    )
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS}/load.{{json,md}}")
    options = parser.parse_args()
    raise_file_limit(2 * options.watchers + max(options.clients) + _OTHER_FILES)
    result = measure(options)
    text = report(result)
    if options.write:
        (RESULTS / "load.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "load.md").write_text(text)
    print(text)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
