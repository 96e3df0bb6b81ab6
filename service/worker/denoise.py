"""From a request to latents, on a warm pipeline."""

from collections.abc import Callable
from typing import Any, Protocol

import torch

from hidiffusion.methods import registry
from hidiffusion.methods.passes import Progress
from hidiffusion.methods.registry import Method
from service.domain.generation import ResolvedRequest
from service.worker.course import Course
from service.worker.pipelines import WarmPipeline
from service.worker.snapshot import Snapshot


class OnStep(Protocol):
    """Hears of each step; may raise to end the run."""

    def __call__(
        self,
        step: int,
        total: int,
        latents: torch.Tensor,
        snapshot: Snapshot | None,
        *,
        left: float,
    ) -> None:
        """Take notice of a step.

        Args:
            step: steps done, over all passes of the method.
            total: steps in all.
            latents: as they stand.
            snapshot: None where the run cannot be taken up again.
            left: work left, in steps that cost what those that are done did on average.
        """


def denoise(
    warm: WarmPipeline,
    request: ResolvedRequest,
    on_step: OnStep,
    begin: Snapshot | None = None,
    alive: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Run the pipeline up to the latents; equal requests give equal latents.

    Args:
        warm: the pipeline of the request's model.
        request: all that decides the picture.
        on_step: hears of each denoising step; steps are calls of the U-Net, so a second-order
            scheduler takes more of them than `num_inference_steps`.
        begin: where an earlier run of this very request was left; None: from pure noise. The
            first step that `on_step` hears of is then the last one of the earlier run.
        alive: called between tiles of pictures that are decoded on the way; may raise likewise.

    Returns:
        `[1, C, height / 8, width / 8]`, scaled as the pipeline holds them.

    Raises:
        UnsupportedRequest: the scheduler is unknown here.
        HiDiffusionError: the method is unknown or does not fit the model.
    """

    def after_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
        if step + 1 >= course.done_before:
            latents, total = tensors["latents"], pipe.num_timesteps
            snapshot = course.snapshot(step + 1, latents)
            on_step(step + 1, total, latents, snapshot, left=total - step - 1)
        return {}

    warm.use_scheduler(request.scheduler)
    method = registry.get(request.method)
    if not method.one_pass:
        return _in_passes(method, warm, request, on_step, alive)
    generator = torch.Generator("cpu").manual_seed(request.seed)
    course = Course(warm.pipe, generator, begin)
    options = request.method_options
    with course.watched(), method.patched(warm.pipe, seed=request.seed, **options):
        result = warm.pipe(
            **_arguments(request),
            height=request.height,
            width=request.width,
            generator=generator,
            callback_on_step_end=after_step,
            callback_on_step_end_tensor_inputs=["latents"],
        )
    latents: torch.Tensor = result.images
    return latents


def _in_passes(
    method: Method,
    warm: WarmPipeline,
    request: ResolvedRequest,
    on_step: OnStep,
    alive: Callable[[], None],
) -> torch.Tensor:
    """Run a method that calls the pipeline more than once."""

    def report(progress: Progress) -> None:
        left = progress.step * (1 - progress.fraction) / progress.fraction
        on_step(progress.step, progress.total, progress.latents, None, left=left)

    result = method.generate(
        warm.pipe,
        width=request.width,
        height=request.height,
        seed=request.seed,
        options=request.method_options,
        on_progress=report,
        alive=alive,
        **_arguments(request),
    )
    latents: torch.Tensor = result.images
    return latents


def _arguments(request: ResolvedRequest) -> dict[str, Any]:
    """Return the arguments of the pipeline that do not depend on the method."""
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt or None,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "output_type": "latent",
    }
