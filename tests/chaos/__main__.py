"""The long form: `python -m tests.chaos --faults 200 --write`.

Prints a line per fault, a table for people and, as its last line, one JSON document; interrupted,
it reports the faults that it came to.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import time
from dataclasses import asdict
from pathlib import Path

from tests.chaos.mixed import checked_out
from tests.chaos.report import summary, table
from tests.chaos.run import Chaos, Round
from tests.chaos.stack import running_stack

#: One fault of so many meets a service whose store is a folder.
FOLDER_SHARE = 4

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def run(options: argparse.Namespace, release: Path | None) -> tuple[list[Round], list[str]]:
    """Every round, over a bucket and then over a folder, and what retention has left."""
    rounds: list[Round] = []
    left: list[str] = []
    in_folder = options.faults // FOLDER_SHARE
    for store, faults in (("bucket", options.faults - in_folder), ("folder", in_folder)):
        with running_stack(options.workers, store, release) as stack:
            chaos = Chaos(stack, options.seed, lambda line: print(line, flush=True))
            chaos.prepare()
            try:
                chaos.run(faults)
            except KeyboardInterrupt:
                in_folder = 0
            left += chaos.left_after_retention()
            rounds += chaos.rounds
        if not in_folder:
            break
    return rounds, left


def main() -> None:
    """Run the long form."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--release", help="commit to go back to, for the fault other_version")
    parser.add_argument("--write", action="store_true", help=f"write the report to {RESULTS}")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begin = time.monotonic()
    tree = checked_out(options.release) if options.release else contextlib.nullcontext()
    with tree as release:
        rounds, left = run(options, release)
    report = {
        "seed": options.seed,
        "workers": options.workers,
        "release": options.release,
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "left_after_retention": len(left),
        **summary(rounds),
    }
    text = table(report)
    print(*left, text, sep="\n")
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        document = report | {"rounds": [asdict(done) for done in rounds]}
        (RESULTS / "chaos.json").write_text(json.dumps(document, indent=1) + "\n")
        (RESULTS / "chaos.md").write_text(text)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
