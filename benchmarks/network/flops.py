"""Count the operations of a U-Net call in each stage of the schedule, on meta tensors.

    python -m benchmarks.network.flops              the table and one JSON document as the last line
    python -m benchmarks.network.flops --write      also renew results/flops.json
    python -m benchmarks.network.flops --plot FILE  also draw the figure

A FLOP is one multiplication or addition in a convolution, matrix product or attention, as
torch.utils.flop_counter counts them. Nothing is executed, so the counts are exact on any machine.
"""

import argparse
import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.network import models
from hidiffusion import HiDiffusionConfig, apply_hidiffusion, remove_hidiffusion
from hidiffusion.clock import Position
from hidiffusion.unet.families import UNetStructure, resolve
from hidiffusion.unet.schedule import Size, Stage, stage

RESULTS = Path(__file__).parents[1] / "results" / "flops.json"
STEPS = 50
SIZES = ((1024, 1024), (2048, 2048), (2048, 4096), (4096, 4096))
#: Windows on a further level, once neither mechanism of RAU-Net acts at 4 times native (0.7 of the
#: steps by the published thresholds).
LATE = HiDiffusionConfig(seed=0, extra_window_levels=1, extra_window_start=0.7)
LATE_NAME = "both, more windows late"
METHODS: dict[str, dict[str, Any] | None] = {
    "direct": None,
    "MSW-MSA": {"raunet": False, "window_attention": True},
    "RAU-Net": {"raunet": True, "window_attention": False},
    "both": {"raunet": True, "window_attention": True},
    LATE_NAME: {"raunet": True, "window_attention": True, "config": LATE},
}


class UNetPipeline(DiffusionPipeline):
    """A U-Net and its scheduler, which is all that the method needs."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)


@cache
def meta_pipeline(family: str) -> UNetPipeline:
    """Build a family's U-Net without storage, its scheduler set to ``STEPS`` steps."""
    with torch.device("meta"):
        pipe = UNetPipeline(models.build(family), DDIMScheduler())
    pipe.scheduler.set_timesteps(STEPS)
    return pipe


def config_of(method: str) -> HiDiffusionConfig:
    """Return a method's settings."""
    # Windows need a seed where no pipeline's run gives one; the counts do not depend on it.
    config: HiDiffusionConfig = (METHODS[method] or {}).get("config", HiDiffusionConfig(seed=0))
    return config


def stages(
    family: str, height: int, width: int, method: str = "both"
) -> list[tuple[Stage, int, int]]:
    """Return (stage, its first step, its number of steps) of a run of ``STEPS`` steps.

    Whether a ControlNet is heard is left out: there is none.
    """
    config = models.CONFIGS[family]
    blocks = config.get("down_block_types", ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",))
    structure = UNetStructure(tuple("Attn" in block for block in blocks), 4, config["sample_size"])
    resolved = resolve(config_of(method), structure)
    size = Size(height // 8, width // 8)

    def active_at(step: int) -> Stage:
        return replace(stage(resolved, size, Position(step, STEPS)), control=False)

    groups = itertools.groupby(range(STEPS), key=active_at)
    runs = [(active, list(members)) for active, members in groups]
    return [(active, members[0], len(members)) for active, members in runs]


def mechanisms(active: Stage, method: str) -> str:
    """Name what a method does in a stage."""
    options = METHODS[method] or {"raunet": False, "window_attention": False}
    names = [
        ("down-sampler", active.rad and options["raunet"]),
        ("pooling", active.pool and options["raunet"]),
        (_windows(active), active.windows and options["window_attention"]),
    ]
    return " + ".join(name for name, acts in names if acts) or "direct"


def _windows(active: Stage) -> str:
    return "windows" if len(active.windows) < 2 else f"windows on {len(active.windows)} levels"


def count(family: str, height: int, width: int, method: str, step: int) -> int:
    """Count the FLOPs of one U-Net call, batch 1, at one step of a run of ``STEPS``.

    Args:
        family: A key of ``models.CONFIGS``.
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        method: A key of ``METHODS``.
        step: From 0.
    """
    pipe = meta_pipeline(family)
    options = METHODS[method]
    if options is not None:
        apply_hidiffusion(pipe, **options | {"config": config_of(method)})
    timestep = pipe.scheduler.timesteps[step].item()  # a number: no run begins with it
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        pipe.unet(timestep=timestep, **models.arguments(pipe.unet, height, width))
    remove_hidiffusion(pipe)
    return counter.get_total_flops()


def table(
    family: str, height: int, width: int, methods: Iterable[str] = tuple(METHODS)
) -> dict[str, list[dict[str, Any]]]:
    """Count every stage of the methods at one size; equal work is counted once."""
    known: dict[str, int] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for method in methods:
        rows[method] = []
        for active, first, steps in stages(family, height, width, method):
            name = mechanisms(active, method)
            if name not in known:
                known[name] = count(family, height, width, method, first)
            rows[method].append({"stage": name, "steps": steps, "flop": known[name]})
    return rows


def image_flop(rows: list[dict[str, Any]]) -> int:
    """Add up a whole run."""
    return sum(row["steps"] * row["flop"] for row in rows)


def markdown(document: dict[str, Any]) -> str:
    """Lay the counts out for people: TFLOP a step in each stage, and of all steps together."""
    lines = [
        "| model | size | method | TFLOP a step, by stage (steps) | TFLOP, 50 steps | of direct |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for family, sizes in document["families"].items():
        for size, methods in sizes.items():
            direct = image_flop(methods["direct"])
            for method, rows in methods.items():
                steps = merged(rows)
                cells = ", ".join(f"{name} {flop / 1e12:.2f} ({n})" for name, n, flop in steps)
                total = image_flop(rows)
                lines.append(
                    f"| {family} | {size} | {method} | {cells} | {total / 1e12:.0f} "
                    f"| {total / direct:.0%} |"
                )
    return "\n".join(lines)


def merged(rows: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """Join neighbouring stages that are the same under this method: (name, steps, FLOP a step)."""
    groups = itertools.groupby(rows, key=lambda row: (row["stage"], row["flop"]))
    return [(name, sum(row["steps"] for row in group), flop) for (name, flop), group in groups]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"renew {RESULTS.name}")
    parser.add_argument("--plot", type=Path, help="draw the figure into this file")
    options = parser.parse_args()
    families = {
        family: {f"{h}x{w}": table(family, h, w) for h, w in SIZES} for family in models.CONFIGS
    }
    document = {"unit": "FLOP", "batch": 1, "steps": STEPS, "families": families}
    if options.write:
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    if options.plot:
        from benchmarks.network.plots import draw_flops

        draw_flops(document, options.plot)
    print(markdown(document))
    print(json.dumps(document))


if __name__ == "__main__":
    main()
