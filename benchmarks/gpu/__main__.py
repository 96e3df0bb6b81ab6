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
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.process import GRACE_SECONDS, isolated
from benchmarks.gpu.sections import SECTIONS


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

    def measured(self, section: str) -> bool:
        """Tell whether an earlier run measured all of a section."""
        entry = self.document["sections"].get(section, {"status": "not begun", "rows": []})
        return entry["status"] == "done" and entry["rows"] == _measured(entry["rows"])

    def begin(self, section: str) -> dict[str, Any]:
        """Make room for a section's rows; what an earlier run measured stays."""
        before = self.document["sections"].get(section, {"rows": []})["rows"]
        rows = _measured(before)
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


def _measured(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if not row.keys() & {"skipped", "failed"}]


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
    """Run one section and keep what it reports."""
    entry = report.begin(name)
    begin = time.monotonic()
    known = frozenset(row["what"] for row in entry["rows"])
    bench = Bench(torch.device(options.device), options.tiny, begin + seconds, known)

    def tell(line: str) -> None:
        if line.startswith('{"what"'):
            row = json.loads(line)
            entry["rows"][:] = [old for old in entry["rows"] if old["what"] != row["what"]] + [row]
            print(f"  {line.rstrip()}", flush=True)
            report.write()

    entry["status"], errors = isolated(name, bench, tell)
    entry["seconds"] = round(time.monotonic() - begin, 1)
    if entry["status"] != "done":
        entry["error"] = errors[-4000:]
    report.write()


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
    names = [name for name in options.only or SECTIONS if not report.measured(name)]
    scale = options.budget / max(1, sum(SECTIONS[name].seconds for name in names))
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
