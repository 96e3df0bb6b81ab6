"""From a request to latents, on a warm pipeline."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType

import torch

from hidiffusion.methods import registry
from hidiffusion.methods.generation.call import PassRun, Progress
from hidiffusion.transformer.latents import layout_of
from service.domain.requests.request import ResolvedRequest
from service.worker.engines.course import Course
from service.worker.engines.engine import OnStep
from service.worker.engines.prompts import guidance, texts
from service.worker.job.snapshot import Snapshot
from service.worker.weights.adapters import use_loras
from service.worker.weights.inputs import Pictures, arguments, encoding_in_tiles, sibling
from service.worker.weights.warm import WarmPipeline


def denoise(
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

    Args:
        warm: the pipeline of the request's model, with what its controls and image prompt need.
        request: all that decides the picture.
        on_step: hears of each denoising step; steps are calls of the U-Net, so a second-order
            scheduler takes more of them than `num_inference_steps`.
        begin: where an earlier run of this very request was left; None: from the beginning. The
            first step that `on_step` hears of is then the last one of the earlier run.
        alive: called between tiles of pictures that are encoded or decoded on the way; may raise
            likewise.
        pictures: what to start from and be guided by, of the request's size, by field.
        mates: requests of the same `batch_key`, drawn with it. There are no snapshots then.

    Returns:
        `[1, C, h, w]`, scaled as the pipeline holds them: a latent for 8 pixels along an axis, of
        Flux.2 for 16; a row more for each of the mates.

    Raises:
        UnsupportedRequest: the scheduler is unknown here, or the model cannot use the pictures.
        ModelUnavailable: a LoRA cannot be loaded.
        HiDiffusionError: the method is unknown or does not fit the model.
    """
    warm.use_scheduler(request.scheduler)
    use_loras(warm.pipe, warm.model, request.loras)
    passes = _Passes(on_step, begin)
    with (
        encoding_in_tiles(warm.pipe.vae, alive) if pictures else contextlib.nullcontext(),
        _prompted_by_picture(warm, request),
    ):
        result = registry.get(request.method).generate(
            sibling(warm, pictures),
            width=request.width,
            height=request.height,
            seed=tuple(row.seed for row in (request, *mates)) if mates else request.seed,
            options=request.method_options,
            on_progress=passes.report,
            alive=alive,
            around=passes.around,
            earlier=() if begin is None else begin.earlier,
            **texts(warm.pipe, request, mates),
            num_inference_steps=request.num_inference_steps,
            **guidance(warm.pipe, request),
            output_type="latent",
            **arguments(pictures, request),
        )
    latents: torch.Tensor = result.images
    if latents.dim() == 4:
        return latents
    return layout_of(warm.pipe, request.width, request.height).unpack(latents)


def _prompted_by_picture(
    warm: WarmPipeline, request: ResolvedRequest
) -> contextlib.AbstractContextManager[None]:
    if warm.ip_adapter is None or request.image_prompt is None:
        return contextlib.nullcontext()
    return warm.ip_adapter.worn(warm.pipe, request.image_prompt.scale)


class _Passes:
    """Follows the passes of a method, and takes up the one that an earlier run was left in.

    Args:
        on_step: hears of each step.
        begin: where the earlier run was left, if there was one.
    """

    def __init__(self, on_step: OnStep, begin: Snapshot | None) -> None:
        self._on_step = on_step
        self._begin = begin

    @contextlib.contextmanager
    def around(self, run: PassRun) -> Iterator[None]:
        """Watch one pass."""
        begins_here = self._begin is not None and self._begin.stage == run.index
        begin = self._begin if begins_here else None
        self._course = Course(run, begin)
        with self._course.watched():
            yield

    def report(self, progress: Progress) -> None:
        """Pass a step on, unless the earlier run has told of it."""
        if progress.pass_step < self._course.done_before:
            return
        # What a pass leaves to the next may be seen in its last step alone, so none is left there.
        leaves = progress.pass_index < progress.num_passes - 1
        resumable = not (leaves and progress.pass_step == progress.pass_total)
        self._on_step(
            progress.step,
            progress.total,
            progress.latents,
            self._course.snapshot(progress) if resumable else None,
            left=progress.step * (1 - progress.fraction) / progress.fraction,
        )
