"""Whole pictures of SDXL's shape, 50 steps with guidance, by every method worth its time."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.pipelines import picture, sdxl, side_of

#: (method, steps, sides), in the order of what people ask first. 4 steps are the few-step recipe:
#: a distilled model takes as long as this one, whatever it knows.
RUNS = (
    ("hidiffusion", 50, 2048),
    ("hidiffusion-refresh", 50, 4096),
    ("hidiffusion", 4, 4096),
    ("hidiffusion", 50, 4096),
    ("hidiffusion-guided", 50, 2048),
    ("direct", 50, 2048),
    ("hidiffusion-refresh", 50, 2048),
    ("hidiffusion-guided", 50, 4096),
)


def run(bench: Bench) -> None:
    """Draw each picture once, warm, from embeddings to latents."""
    pipe = sdxl(bench)
    with torch.no_grad():
        picture(pipe, "hidiffusion", side_of(bench, 2048), 2)
        per_pixel = 0.0
        for method, steps, side in RUNS:
            name = f"{method} {side}x{side}, {steps} steps with guidance"
            pixels = steps * side**2
            if name in bench.known:
                continue
            if bench.left < 1.2 * per_pixel * pixels + 2:
                bench.row(name, skipped="out of time")
                continue
            draw = partial(picture, pipe, method, side_of(bench, side), 8 if bench.tiny else steps)
            with bench.memory() as peak:
                taken = bench.seconds(draw, warmup=0, repeats=1)
            per_pixel = max(per_pixel, taken / pixels)
            bench.row(name, seconds=round(taken, 2), **peak)
