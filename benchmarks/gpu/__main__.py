"""Measure everything that only a GPU can tell, within a budget of seconds.

    python -m benchmarks.gpu --out results                  all sections, 400 seconds
    python -m benchmarks.gpu --only step pictures --budget 200 --out results
    python -m benchmarks.gpu --tiny --device cpu --out /tmp/tiny    try the program without a GPU

Sections run one after the other, in the order of their worth, each in a process and within a limit
of its own; one that fails or runs out of time is reported and the next one runs. Every row is on
disk as soon as it is measured: DIR/gpu-NAME.json (NAME is the device's) and a table in DIR/gpu.md.
A second run with the same DIR measures what the first had no time for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.sections import SECTIONS, module, run

#: Seconds between asking a section to end and ending it.
GRACE_SECONDS = 5.0


class Report:
    """The rows of all sections so far, rewritten with every new one."""

    def __init__(self, folder: Path, device: str, budget: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        self.path = folder / f"gpu-{slug}.json"
        self.table = folder / "gpu.md"
        self.document: dict[str, Any] = {"device": name, "budget_seconds": budget, "sections": {}}
        if self.path.exists():
            self.document["sections"] = json.loads(self.path.read_text())["sections"]

    def begin(self, section: str) -> dict[str, Any]:
        """Make room for a section's rows; what an earlier run measured stays."""
        before = self.document["sections"].get(section, {"rows": []})["rows"]
        rows = [row for row in before if not row.keys() & {"skipped", "failed"}]
        entry: dict[str, Any] = {
            "title": SECTIONS[section].title,
            "status": "running",
            "rows": rows,
        }
        self.document["sections"][section] = entry
        return entry

    def write(self) -> None:
        """Put everything on disk; a reader never sees half a file."""
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.document, indent=1) + "\n")
        part.replace(self.path)
        self.table.write_text(markdown(self.document))


def markdown(document: dict[str, Any]) -> str:
    """Lay all rows out for people."""
    lines = [f"# Measured on {document['device']}", ""]
    for name, section in document["sections"].items():
        lines += [
            f"## {name}: {section['title']}",
            "",
            f"{section['status']} after {section.get('seconds', 0)} s",
            "",
        ]
        for row in section["rows"]:
            figures = ", ".join(f"{key} {value}" for key, value in row.items() if key != "what")
            lines.append(f"- {row['what']}: {figures}")
        if "error" in section:
            lines += ["", "```", section["error"], "```"]
        lines.append("")
    return "\n".join(lines)


def measure(name: str, options: argparse.Namespace, seconds: float, report: Report) -> None:
    """Run one section in a process of its own and keep what it reports.

    The process is a fork of one that has imported everything and touched no device: on a machine
    that has just started, imports take as long as a measurement.
    """
    entry = report.begin(name)
    begin = time.monotonic()
    errors: list[str] = []
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module(one) for one in SECTIONS])
    (told, out), (failed, err) = (context.Pipe(duplex=False) for _ in range(2))
    known = frozenset(row["what"] for row in entry["rows"])
    bench = Bench(torch.device(options.device), options.tiny, begin + seconds, known)
    process = context.Process(target=_section, args=(name, bench, out, err))
    process.start()
    out.close()
    err.close()
    ended = threading.Timer(seconds + GRACE_SECONDS, _kill, (process.pid,))
    ended.start()
    reader = threading.Thread(target=_collect, args=(failed, errors))
    reader.start()
    for line in _lines(told):
        if line.startswith('{"what"'):
            entry["rows"].append(json.loads(line))
            print(f"  {line.rstrip()}", flush=True)
            report.write()
    process.join()
    ended.cancel()
    reader.join()
    entry["seconds"] = round(time.monotonic() - begin, 1)
    out_of_time = process.exitcode == -signal.SIGKILL
    fine = process.exitcode == 0
    entry["status"] = "done" if fine else "out of time" if out_of_time else "failed"
    if not fine:
        entry["error"] = "".join(errors)[-4000:]
    report.write()


def _section(name: str, bench: Bench, out: Connection, err: Connection) -> None:
    """Run a section in this process; rows go to one pipe, what goes wrong to the other."""
    os.setsid()
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    run(name, bench)


def _kill(process: int | None) -> None:
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)


def _lines(pipe: Connection) -> Iterator[str]:
    with os.fdopen(os.dup(pipe.fileno()), errors="replace") as stream:
        yield from stream


def _collect(pipe: Connection, lines: list[str]) -> None:
    lines.extend(_lines(pipe))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", default=None)
    parser.add_argument("--budget", type=float, default=400, help="seconds in all (400)")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu"), metavar="DIR")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="miniature shapes, to try the program")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the sections; 0 if every one of them ended well."""
    options = parse(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "error: this torch sees no CUDA device; --tiny --device cpu tries the program",
            file=sys.stderr,
        )
        return 2
    report = Report(options.out, options.device, options.budget)
    names = options.only or list(SECTIONS)
    scale = options.budget / sum(SECTIONS[name].seconds for name in names)
    end = time.monotonic() + options.budget
    for name in names:
        left = end - time.monotonic()
        if left < 2 * GRACE_SECONDS:
            report.begin(name)["status"] = "not begun: the budget is spent"
            report.write()
            continue
        print(f"{name}: {SECTIONS[name].title}", flush=True)
        measure(name, options, min(SECTIONS[name].seconds * scale, left - GRACE_SECONDS), report)
    print(f"\n{report.table.read_text()}\nwritten: {report.path}")
    sections = report.document["sections"].values()
    return 0 if all(section["status"] == "done" for section in sections) else 1


if __name__ == "__main__":
    sys.exit(main())
