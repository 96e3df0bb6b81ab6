"""The figures of docs/transformers.md: `python -m benchmarks.transformer_figures`."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch

from hidiffusion.transformer.positions import Axis, frequencies
from hidiffusion.unet.config import random_shifts
from hidiffusion.unet.windows import WindowGrid, window_indices

IMAGES = Path(__file__).parents[1] / "docs" / "images"
#: Position axes of Flux.1 and of Z-Image at 4096x4096 (`axes_dims_rope`, `rope_theta`).
AXES = {"Flux.1": Axis(56, 1e4, 64), "Z-Image": Axis(48, 256, 64)}
SCALE = 4


def positions() -> None:
    """Draw by how much each rule lowers each frequency."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for panel, (name, axis) in zip(panels, AXES.items(), strict=True):
        own = frequencies(axis, 1, "none")
        for rule in ("interpolation", "ntk", "yarn"):
            panel.plot(frequencies(axis, SCALE, rule) / own, marker=".", label=rule)
        turns = own * axis.native / (2 * torch.pi)
        panel.axvline(float((turns > 1).sum()) - 0.5, color="grey", linestyle=":")
        panel.set(title=f"{name}, {SCALE} native sides", xlabel="component, fast to slow")
    panels[0].set_ylabel("frequency / trained frequency")
    panels[0].legend()
    panels[1].text(13, 0.9, "right of the line: less than\none turn in training", fontsize=8)
    figure.tight_layout()
    figure.savefig(IMAGES / "transformer-positions.png", dpi=110)


def cuts() -> None:
    """Draw the windows of one block of Flux at 4096x4096 in three steps."""
    side = 256
    figure, panels = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
    for panel, step in zip(panels, (900, 600, 300), strict=True):
        shift = random_shifts(seed=7, block=0, step=0, timestep=float(step))
        cut = window_indices(
            (side, side), WindowGrid(4, 4), (shift,), batch=1, device=torch.device("cpu")
        )
        owner = cut.scatter.long() // (cut.gather.numel() // cut.num_windows)
        panel.imshow(owner.view(side, side), cmap="tab20", interpolation="nearest")
        panel.set(title=f"timestep {step}: shift {shift}/4", xticks=[], yticks=[])
    figure.savefig(IMAGES / "transformer-windows.png", dpi=110)


if __name__ == "__main__":
    mpl.use("Agg")
    positions()
    cuts()
