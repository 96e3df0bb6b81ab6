"""From a request to latents, on a warm pipeline."""

from collections.abc import Callable
from typing import Any

import torch

from hidiffusion.methods import registry
from service.domain.generation import ResolvedRequest
from service.worker.course import Course
from service.worker.pipelines import WarmPipeline
from service.worker.snapshot import Snapshot

#: Called after each step with (steps done, steps in all, latents, snapshot); may raise to end the
#: run. The snapshot is None where the run cannot be taken up again.
OnStep = Callable[[int, int, torch.Tensor, Snapshot | None], None]


def denoise(
    warm: WarmPipeline,
    request: ResolvedRequest,
    on_step: OnStep,
    begin: Snapshot | None = None,
) -> torch.Tensor:
    """Run the pipeline up to the latents; equal requests give equal latents.

    Args:
        warm: the pipeline of the request's model.
        request: all that decides the picture.
        on_step: hears of each denoising step; steps are calls of the U-Net, so a second-order
            scheduler takes more of them than `num_inference_steps`.
        begin: where an earlier run of this very request was left; None: from pure noise. The
            first step that `on_step` hears of is then the last one of the earlier run.

    Returns:
        `[1, C, height / 8, width / 8]`, scaled as the pipeline holds them.

    Raises:
        UnsupportedRequest: the scheduler is unknown here.
        HiDiffusionError: the method is unknown or does not fit the model.
    """

    def after_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
        if step + 1 >= course.done_before:
            latents = tensors["latents"]
            on_step(step + 1, pipe.num_timesteps, latents, course.snapshot(step + 1, latents))
        return {}

    warm.use_scheduler(request.scheduler)
    generator = torch.Generator("cpu").manual_seed(request.seed)
    method = registry.get(request.method)
    course = Course(warm.pipe, generator, begin, resumable=method.one_pass)
    with course.watched(), method.patched(warm.pipe, seed=request.seed):
        result = warm.pipe(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt or None,
            height=request.height,
            width=request.width,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            generator=generator,
            output_type="latent",
            callback_on_step_end=after_step,
            callback_on_step_end_tensor_inputs=["latents"],
        )
    latents: torch.Tensor = result.images
    return latents
