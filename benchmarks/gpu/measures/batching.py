"""Small pictures drawn together: pictures a second of SDXL's shape by size and batch."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.pipelines import Alone, side_of, unet
from benchmarks.network.models import arguments


def run(bench: Bench) -> None:
    """Time one direct step of the U-Net, with guidance, for one and for several pictures."""
    model = unet(bench, "sdxl")
    pipe = Alone.of(model)
    timestep = pipe.scheduler.timesteps[0]
    with torch.no_grad():
        for side in (512, 1024):
            here = side_of(bench, side)
            alone = 0.0
            for pictures in (1, 2, 4, 8):
                if bench.left < 3:
                    return
                inputs = arguments(model, here, here, batch=2 * pictures)
                taken = bench.seconds(partial(model, timestep=timestep, **inputs))
                alone = alone or taken
                bench.row(
                    f"{side}x{side}, {pictures} together",
                    ms_a_step=round(1e3 * taken, 2),
                    throughput=round(pictures * alone / taken, 2),
                )
