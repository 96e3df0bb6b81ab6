"""From a class to latents, on a warm pipeline of DiMR's shape."""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import torch

from service.domain.requests.request import ResolvedRequest
from service.worker.engines.course import changed
from service.worker.engines.engine import OnStep
from service.worker.job.snapshot import Snapshot
from service.worker.weights.inputs import Pictures
from service.worker.weights.warm import WarmPipeline


def draw_classes(
    warm: WarmPipeline,
    request: ResolvedRequest,
    on_step: OnStep,
    begin: Snapshot | None = None,
    *,
    alive: Callable[[], None] = lambda: None,
    pictures: Pictures = MappingProxyType({}),
    mates: Sequence[ResolvedRequest] = (),
) -> torch.Tensor:
    """Run the pipeline up to the latents; equal requests give equal latents.

    Arguments, result and errors are those of `service.worker.engines.diffusion.denoise`. Steps are
    calls of the network; there are no pictures to start from, and nothing is encoded on the way.
    """
    del alive, pictures
    warm.use_scheduler(request.scheduler)
    pipe, rows = warm.pipe, (request, *mates)
    generators = [torch.Generator().manual_seed(row.seed) for row in rows]
    size = {"height": request.height, "width": request.width}
    latents: torch.Tensor = pipe.prepare_latents(len(rows), generators, **size)
    pipe.scheduler.set_timesteps(request.num_inference_steps, device=latents.device)
    initial, total, done = dict(vars(pipe.scheduler)), len(pipe.scheduler.timesteps), 0

    def tell(latents: torch.Tensor) -> None:
        snapshot = None if mates else _snapshot(pipe, initial, done, latents, generators[0])
        on_step(done, total, latents, snapshot, left=total - done)

    if begin is not None:
        vars(pipe.scheduler).update(begin.scheduler)
        generators[0].set_state(begin.generator)
        latents, done = begin.latents, begin.step
        tell(latents)
    labels = [int(row.class_label or 0) for row in rows]
    for step, latents in pipe.denoise(  # noqa: B020 - each step's latents take the last one's place
        latents,
        torch.tensor(labels, device=latents.device),
        guidance_scale=request.guidance_scale,
        generator=generators,
        begin=done,
    ):
        done = step + 1
        tell(latents)
    return latents


def _snapshot(
    pipe: Any,
    initial: dict[str, Any],
    done: int,
    latents: torch.Tensor,
    generator: torch.Generator,
) -> Snapshot:
    return Snapshot(
        step=done,
        stage=0,
        stage_step=done,
        latents=latents,
        scheduler=changed(pipe.scheduler, initial),
        generator=generator.get_state(),
        earlier=(),
    )
