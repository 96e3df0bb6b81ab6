"""The figures of the model card, which every training renews."""

from __future__ import annotations

from typing import Any

from models.train.figures.judge import wilson
from models.train.figures.native import Native


def tables(figures: dict[str, Any]) -> str:
    """Lays the figures out as three tables.

    Args:
        figures: What `models.train.figures.report.report` returns.
    """
    native = Native(**figures["native"])
    low, high = wilson(native.hits, native.samples)
    lines = ["| stage | steps | minutes | loss at the end |", "| --- | --- | --- | --- |"]
    for name, stage in figures["stages"].items():
        lines.append(
            f"| {name} | {stage['steps']:,} | {stage['minutes']:.0f} | {stage['loss']:.4f} |"
        )
    lines += ["", f"On: {figures['device']}.", "", "| part | parameters |", "| --- | --- |"]
    lines += [
        f"| {name.replace('_', ' ')} | {count / 1e6:.1f} M |"
        for name, count in figures["parameters"].items()
    ]
    lines += [
        "",
        "| measured | |",
        "| --- | --- |",
        f"| nouns | {figures['nouns']} |",
        f"| reconstruction of their pictures, PSNR, mean | {figures['psnr_mean_db']:.1f} dB |",
        f"| the same, worst | {figures['psnr_worst_db']:.1f} dB |",
        f"| samples that show their noun, {native.seeds} of each | {native.hits} of "
        f"{native.samples}, {native.hits / native.samples:.0%} ({low:.0%} to {high:.0%}) |",
        f"| missed | {missed(native)} |",
        f"| steepest fiftieth of the gradients | {native.edges:.0f} grey levels a pixel |",
        f"| by seed, an object's middle varies by | {native.place:.0f} pixels along an axis |",
        f"| by seed, its side varies by | {native.size:.0f} pixels |",
        f"| all files | {figures['size_mb']:.1f} MB |",
    ]
    return "\n".join(lines)


def missed(native: Native) -> str:
    """Says in how many samples which nouns were not found."""
    misses = {noun: native.seeds - hits for noun, hits in native.right.items()}
    return ", ".join(f"{noun} {count}" for noun, count in misses.items() if count) or "none"
