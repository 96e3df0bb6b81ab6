"""Draw the figures of docs/library.md from the library's own functions.

python docs/figures/library.py
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from hidiffusion.clock import Position
from hidiffusion.unet.config import HiDiffusionConfig, ResolvedConfig
from hidiffusion.unet.families import FAMILIES, UNetStructure, resolve
from hidiffusion.unet.schedule import DIRECT, Size, Stage, level_sizes, stage
from hidiffusion.unet.windows import WindowGrid, window_indices

IMAGES = Path(__file__).parents[1] / "images"
STEPS = 50
COLOURS = {"both": "#b3433b", "down-sampler": "#e08e45", "pooling": "#d9c04f", "none": "#8fb7c9"}


def resolved(name: str, native_size: int) -> ResolvedConfig:
    """Resolve the published configuration of a family."""
    row = next(row for row in FAMILIES if row.name == name)
    structure = UNetStructure(row.cross_attention, row.in_channels or 4, native_size)
    return resolve(HiDiffusionConfig(family=name), structure)


SD = resolved("sd", 64)
SDXL = resolved("sdxl", 128)


def mechanism(now: Stage) -> str:
    """Name what shrinks."""
    return {(1, 1): "both", (1, 0): "down-sampler", (0, 1): "pooling", (0, 0): "none"}[
        now.rad, now.pool
    ]


def draw_schedule() -> None:
    """One bar a family and size; colour tells the mechanism of each of 50 steps."""
    turbo = resolved("sdxl-turbo", 64)
    rows = [
        ("SD 1.5, 2.1 at 1024²", SD, 128),
        ("SD 1.5, 2.1 at 2048²", SD, 256),
        ("SDXL at 2048²", SDXL, 256),
        ("SDXL at 4096²", SDXL, 512),
        ("SDXL-Turbo at 1024²", turbo, 128),
    ]
    figure, axes = plt.subplots(figsize=(8, 2.6))
    for y, (_, config, side) in enumerate(rows):
        for step in range(STEPS):
            now = stage(config, Size(side, side), Position(step, STEPS))
            axes.barh(y, 1, left=step, color=COLOURS[mechanism(now)], edgecolor="white", lw=0.4)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axes.invert_yaxis()
    axes.set_xlabel("step of 50")
    handles = [mpl.patches.Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, ncols=4, loc="upper center", frameon=False, title="what shrinks")
    figure.subplots_adjust(top=0.78, left=0.22, right=0.98, bottom=0.2)
    save(figure, "library-schedule.png")


def draw_sizes() -> None:
    """The side of the feature map at each place of the U-Net, one line a stage."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2))
    cases = (("SD 1.5 at 2048²", SD, 256, 64), ("SDXL at 4096²", SDXL, 512, 128))
    for axes, (title, config, side, native) in zip(panels, cases, strict=True):
        seen: dict[str, Stage] = {}
        for step in range(STEPS):
            now = stage(config, Size(side, side), Position(step, STEPS))
            seen.setdefault(mechanism(now), now)
        for name, now in seen.items():
            plot_sizes(axes, config, side, now, colour=COLOURS[name], label=name)
        plot_sizes(axes, config, native, DIRECT, colour="#888888", label="in training")
        axes.set_title(title)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
        axes.set_ylabel("side of the map")
        axes.legend(frameon=False, fontsize=8)
        axes.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    save(figure, "library-sizes.png")


def plot_sizes(
    axes: Axes, config: ResolvedConfig, side: int, now: Stage, *, colour: str, label: str
) -> None:
    """Plot one stage: each level at its entrance and after its pooling, down and up again."""
    levels = level_sizes(config, Size(side, side), now)
    down = [size.height for level in levels for size in (level.full, level.inner)]
    dashed = "--" if label == "in training" else "-"
    axes.plot([*down, *reversed(down)], dashed, color=colour, label=label, marker=".")
    names = [f"{index}" for index in range(len(levels)) for _ in (0, 1)]
    ticks = range(0, 2 * len(down), 2)
    axes.set_xticks(ticks, [[*names, *reversed(names)][tick] for tick in ticks])
    axes.set_xlabel("level, down and up")


def draw_windows() -> None:
    """The four shifts of the published grid, and a map of odd sides."""
    figure, panels = plt.subplots(1, 5, figsize=(10, 2.5))
    cases = [((16, 16), shift) for shift in range(4)] + [((13, 15), 2)]
    for axes, ((height, width), shift) in zip(panels, cases, strict=True):
        paint_windows(axes, height, width, shift)
        axes.set_title(f"{height}x{width}, shift {shift}", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.tight_layout()
    save(figure, "library-windows.png")


def paint_windows(axes: Axes, height: int, width: int, shift: int) -> None:
    """Colour each token by its window; lighten those that a second window sees as well."""
    index = window_indices(
        (height, width), WindowGrid(2, 2), (shift,), batch=1, device=torch.device("cpu")
    )
    per_window = index.gather.view(4, -1)
    owner = index.scatter.view(height, width) // per_window.shape[1]
    palette = np.array([mpl.colors.to_rgb(colour) for colour in COLOURS.values()])
    image = palette[owner.numpy()]
    seen = np.bincount(index.gather.numpy(), minlength=height * width).reshape(height, width)
    image[seen > 1] = 0.5 + 0.5 * image[seen > 1]
    axes.imshow(image)


def save(figure: plt.Figure, name: str) -> None:
    """Write a figure without anything that changes from run to run."""
    figure.savefig(IMAGES / name, dpi=110, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    draw_schedule()
    draw_sizes()
    draw_windows()
