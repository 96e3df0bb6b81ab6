"""The rounds in figures, for programs and for people."""

import statistics
from collections import Counter
from typing import Any

from tests.chaos.run import Round


def summary(rounds: list[Round]) -> dict[str, Any]:
    """The rounds in figures, by kind of fault and in all."""
    kinds = sorted({done.fault for done in rounds})
    return {
        "faults": len(rounds),
        "jobs": sum(len(done.generations) for done in rounds),
        "refused": sum(done.refused for done in rounds),
        "losses": sum(any("lost" in text for text in done.broken) for done in rounds),
        "duplicates": sum(any(_tells_of_two(text) for text in done.broken) for done in rounds),
        "broken_invariants": sum(len(done.broken) for done in rounds),
        "attempts": dict(sorted(Counter(done.attempts for done in rounds).items())),
        "recovery_seconds": _recovery(rounds),
        "by_fault": {
            kind: {
                "faults": sum(done.fault == kind for done in rounds),
                "recovery_seconds": _recovery([done for done in rounds if done.fault == kind]),
            }
            for kind in kinds
        },
    }


def _tells_of_two(text: str) -> bool:
    return "final event" in text or "doubled: " in text


def _recovery(rounds: list[Round]) -> dict[str, float]:
    seconds = [done.recovery_seconds for done in rounds]
    return {"median": round(statistics.median(seconds), 2), "worst": max(seconds)}


def table(report: dict) -> str:
    """The report as Markdown."""
    rows = [
        f"{report['faults']} faults, {report['jobs']} generations, {report['losses']} lost, "
        f"{report['duplicates']} duplicated, {report['broken_invariants']} broken invariants, "
        f"{report['left_after_retention']} keys and objects left after retention; "
        f"{report['refused']} times a limit was met, and everybody served in the end; "
        f"recovery {report['recovery_seconds']['median']} s (median), "
        f"{report['recovery_seconds']['worst']} s (worst); seed {report['seed']}, "
        f"{report['workers']} workers, {report['minutes']} minutes on {report['machine']}.",
        "",
        "| fault | times | recovery, median (s) | worst (s) |",
        "| --- | ---: | ---: | ---: |",
    ]
    for kind, figures in report["by_fault"].items():
        seconds = figures["recovery_seconds"]
        rows.append(f"| {kind} | {figures['faults']} | {seconds['median']} | {seconds['worst']} |")
    return "\n".join(rows) + "\n"
