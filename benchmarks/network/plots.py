"""Draw the figures of README.md from the result documents."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLOURS = {"direct": "#8c8c8c", "MSW-MSA": "#4c9fd6", "RAU-Net": "#e8a33d", "both": "#2f7d4f"}
TITLES = {"sd15": "SD 1.5", "sd21": "SD 2.1", "sdxl": "SDXL"}


def draw_flops(document: dict[str, Any], path: Path) -> None:
    """Draw the TFLOP of a whole run, by model, size and method.

    Args:
        document: What benchmarks.network.flops prints as its last line.
        path: The picture file to write.
    """
    families = document["families"]
    figure, axes = plt.subplots(
        1, len(families), figsize=(12, 4), sharey=True, layout="constrained"
    )
    for axis, (family, sizes) in zip(axes, families.items(), strict=True):
        _draw_family(axis, sizes)
        axis.set_title(TITLES[family])
        axis.set_xlabel("picture, pixels")
    axes[0].set_ylabel(f"TFLOP, {document['steps']} U-Net calls, batch {document['batch']}")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_family(axis: Axes, sizes: dict[str, Any]) -> None:
    width = 0.8 / len(COLOURS)
    for place, (method, colour) in enumerate(COLOURS.items()):
        totals = [_tflop(methods[method]) for methods in sizes.values()]
        places = [index + (place - 1.5) * width for index in range(len(totals))]
        axis.bar(places, totals, width, color=colour, label=method)
        if method == "both":
            for x, total, methods in zip(places, totals, sizes.values(), strict=True):
                share = f"{total / _tflop(methods['direct']):.0%}"
                axis.annotate(share, (x, total), ha="center", va="bottom", fontsize=8)
    axis.set_yscale("log")
    axis.set_xticks(range(len(sizes)), list(sizes))
    axis.spines[["top", "right"]].set_visible(False)


def _tflop(rows: list[dict[str, Any]]) -> float:
    return float(sum(row["steps"] * row["flop"] for row in rows)) / 1e12
