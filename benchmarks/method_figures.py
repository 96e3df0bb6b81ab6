"""Draw the figures of docs/methods.md on the bundled model: `python -m benchmarks.method_figures`.

Each shows the direct picture of that size, and what every pass of the method ends on.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from matplotlib import pyplot as plt
from torch import Tensor

from hidiffusion.methods.generation.call import Progress
from hidiffusion.methods.generation.codec import Codec
from hidiffusion.methods.registry import METHODS

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "fluent-emoji-256"
IMAGES = ROOT / "docs" / "images"
#: What every figure shows.
ORDER: dict[str, Any] = {
    "prompt": "an emoji of a red apple",
    "guidance_scale": 3.0,
    "seed": 7,
    "output_type": "latent",
}
#: Panels of a figure: a title and a picture `[3, H, W]` on [0, 1].
Panels = list[tuple[str, Tensor]]


def load() -> Any:
    """Load the bundled model."""
    pipe: Any = StableDiffusionPipeline.from_pretrained(MODEL, local_files_only=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def panels(pipe: Any, name: str, side: int, steps: int) -> Panels:
    """Run a method; return what each of its passes ends on."""
    ends: dict[int, Progress] = {}

    def keep(progress: Progress) -> None:
        ends[progress.pass_index] = progress

    METHODS[name].generate(
        pipe, width=side, height=side, num_inference_steps=steps, on_progress=keep, **ORDER
    )
    codec = Codec(pipe.vae)
    pictures = [codec.picture(progress.latents)[0].cpu() for progress in ends.values()]
    return [(f"{name}, {each.shape[-1]} pixels", each) for each in pictures]


def draw(shown: Panels, path: Path) -> None:
    """Draw panels beside each other, each as large as its picture is beside the largest."""
    sides = [picture.shape[-1] for _, picture in shown]
    figure, axes = plt.subplots(
        1,
        len(shown),
        figsize=(sum(sides) / max(sides) * 4, 4.4),
        width_ratios=sides,
        layout="constrained",
    )
    for axis, (title, picture) in zip(axes, shown, strict=True):
        axis.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
    figure.savefig(path, dpi=110)
    plt.close(figure)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512, help="pixels, twice native by default")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--methods", nargs="*", default=[*METHODS], choices=[*METHODS])
    options = parser.parse_args()
    pipe = load()
    direct = panels(pipe, "direct", options.side, options.steps)
    native = panels(pipe, "direct", 256, options.steps)
    for name in options.methods:
        drawn = native if name == "direct" else panels(pipe, name, options.side, options.steps)
        path = IMAGES / f"method-{name}.png"
        draw([*direct, *drawn], path)
        print(path)


if __name__ == "__main__":
    main()
