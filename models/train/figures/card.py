"""The figures of the model card, which every training renews."""

from __future__ import annotations

from typing import Any


def tables(figures: dict[str, Any]) -> str:
    """Lays the figures out as three tables.

    Args:
        figures: What `models.train.figures.report.report` returns.
    """
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
        f"| samples that show their noun, of {figures['samples']} | {figures['right_noun']:.0%} |",
        f"| all files | {figures['size_mb']:.1f} MB |",
    ]
    return "\n".join(lines)
