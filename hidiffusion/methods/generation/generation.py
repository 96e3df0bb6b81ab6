"""Runs the passes of a generation, as one generation with one progress.

A pass over the last steps is image to image, for which diffusers has a sibling of most pipelines;
it is run with the modules of the pipeline that was given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from diffusers import AutoPipelineForImage2Image
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from hidiffusion.errors import InterruptedGenerationError, UnsupportedPipelineError
from hidiffusion.methods.generation.call import Call, PassRun, Progress
from hidiffusion.methods.generation.codec import Codec, fitted
from hidiffusion.methods.generation.passes import Pass, argument, native_like, schedule_of
from hidiffusion.methods.x0 import Trajectory, observed_steps
from hidiffusion.transformer.families import is_transformer
from hidiffusion.transformer.latents import Layout, layout_of
from hidiffusion.transformer.tail import Table, scheduled, table_of

#: Names under which pipelines take a picture that has to have the size of the pass.
_PICTURES = ("image", "mask_image", "control_image")

#: Gives what is entered around a run, for the pipeline that runs.
Enter = Callable[[Any], AbstractContextManager[Any]]


class Generation:
    """The passes of one generation.

    Attributes:
        pipe: the diffusers pipeline that was given.
        call: what was asked for.
        passes: all passes, in order.
        index: the pass under way.
        left: what the passes before it left to it, a tensor each.
        codec: between latents and pictures.
        trajectory: the predicted x0 of the first pass, where the method follows it.
    """

    def __init__(self, pipe: Any, call: Call, passes: Sequence[Pass]) -> None:
        self.pipe = pipe
        self.call = call
        self.passes = tuple(passes)
        self.index = 0
        self.left: list[Tensor] = []
        self.codec = Codec(getattr(pipe, "vae", None), call.alive)
        self.trajectory: Trajectory | None = None
        self._table: Table | None = None  # a transformer's schedule in the first pass

    def run(self, draw: Callable[[Generation, Tensor | None], Any]) -> Any:
        """Run the passes that no earlier generation has left.

        Args:
            draw: runs the pass under way, given what the one before it left; returns what it
                leaves, and in the last one the pipeline's output.
        """
        self.left = list(self.call.earlier)
        for index in range(len(self.left), len(self.passes)):
            self.index = index
            self.left.append(draw(self, self.left[-1] if self.left else None))
        return self.left[-1]

    @property
    def now(self) -> Pass:
        """The pass under way."""
        return self.passes[self.index]

    @property
    def last(self) -> bool:
        """Whether it is the last one."""
        return self.index == len(self.passes) - 1

    @property
    def dtype(self) -> torch.dtype:
        """What the pipeline's model computes in."""
        model = getattr(self.pipe, "unet", None) or self.pipe.transformer
        dtype: torch.dtype = model.dtype
        return dtype

    @property
    def guidance_scale(self) -> float:
        """Classifier-free guidance asked for, or the pipeline's own default."""
        return float(argument(self.pipe, self.call, "guidance_scale", 1.0))

    @property
    def layout(self) -> Layout:
        """How the pipeline holds the latents of the pass."""
        if is_transformer(self.pipe):
            return layout_of(self.pipe, self.now.width, self.now.height)
        return Layout("plain", self.now.height, self.now.width)

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of the pass in latents."""
        factor = int(self.pipe.vae_scale_factor)
        return self.now.height // factor, self.now.width // factor

    def draw(self, *enter: Enter, **changes: Any) -> Any:
        """Run the pass over the whole schedule, from noise.

        Args:
            *enter: entered around the run, each called with the pipeline that runs.
            **changes: arguments of the pipeline in the place of the call's.

        Returns:
            The pipeline's output; of any pass but the last its latents [B, C, h, w].
        """
        return self._run(self.pipe, self._sized_arguments() | changes, enter)

    def refine(self, latents: Tensor, *enter: Enter, **changes: Any) -> Any:
        """Run the pass over the last steps of the schedule.

        Args:
            latents: the clean picture that it starts from, noise not yet added, of its size.
            *enter: entered around the run, each called with the pipeline that runs.
            **changes: arguments of the pipeline in the place of the call's.

        Returns:
            As `draw`.
        """
        if is_transformer(self.pipe):
            return self._last_steps(latents, enter, changes)
        sibling = image_to_image(self.pipe)
        arguments = self._sized_arguments()
        if "control_image" in parameters(sibling) and "control_image" not in arguments:
            arguments["control_image"] = arguments.pop("image", None)
        if "mask_image" in arguments:
            latents = self._repainted(sibling, latents, arguments)
        # Half a step more than the steps, so that rounding down never loses one.
        steps = schedule_of(self.pipe, self.call).steps
        arguments |= {"image": latents, "strength": min(1.0, (self.now.steps + 0.5) / steps)}
        if "original_inference_steps" in parameters(sibling):
            # Latent consistency pipelines spread their steps over the strength, and drop none.
            arguments["num_inference_steps"] = self.now.steps
        return self._run(sibling, arguments | changes, enter)

    def _last_steps(self, latents: Tensor, enter: Sequence[Enter], changes: dict[str, Any]) -> Any:
        """Begin in the middle of the first pass's schedule, with noise of that moment."""
        arguments = self._sized_arguments() | changes
        if self._table is None:  # the first pass was left by an earlier generation
            first = {**arguments, "width": self.passes[0].width, "height": self.passes[0].height}
            known = parameters(self.pipe)
            self._table = table_of(self.pipe, {n: each for n, each in first.items() if n in known})
        table = self._table.last(self.now.calls)
        generator = self.call.generator(self.index)
        noise = randn_tensor(latents.shape, generator, latents.device, latents.dtype)
        arguments |= {
            "latents": self.layout.given(table.noised(latents, noise)),
            "num_inference_steps": self.now.calls,
            "sigmas": None,
        }
        return self._run(
            self.pipe, arguments, (lambda pipe: scheduled(pipe.scheduler, table), *enter)
        )

    def _repainted(self, pipe: Any, latents: Tensor, arguments: dict[str, Any]) -> Tensor:
        """Decode latents, and put the caller's own picture back where the mask keeps it."""
        picture = self.codec.picture(latents)
        size = (self.now.height, self.now.width)
        kept = pipe.image_processor.preprocess(arguments["image"], *size).to(picture) / 2 + 0.5
        mask = pipe.mask_processor.preprocess(arguments["mask_image"], *size).to(picture)
        whole: Tensor = picture * mask + kept * (1 - mask)
        return whole

    def _sized_arguments(self) -> dict[str, Any]:
        """Return the call's arguments of the pipeline, brought to the size of the pass."""
        size = {"width": self.now.width, "height": self.now.height}
        given = self.call.arguments
        pictures = {name: fitted(given[name], **size) for name in _PICTURES if name in given}
        steps = {} if _custom(given) else {"num_inference_steps": self._steps}
        between = {} if self.last else {"output_type": "latent", "return_dict": True}
        return {**given, **pictures, **size, **steps, **between}

    @property
    def _steps(self) -> int:
        """A sibling's default may be another one than the pipeline's."""
        return int(argument(self.pipe, self.call, "num_inference_steps", 50))

    def _run(self, pipe: Any, arguments: dict[str, Any], enter: Sequence[Enter]) -> Any:
        accepted = parameters(pipe)
        arguments["generator"] = self.call.generator(self.index)
        earlier = tuple(self.left) if self.trajectory is None else None
        seen, layout = _Seen(self, pipe), self.layout
        with ExitStack() as stack:
            run = PassRun(self.index, pipe, arguments["generator"], earlier)
            stack.enter_context(self.call.around(run))
            for each in enter:
                stack.enter_context(each(pipe))
            stack.enter_context(observed_steps(pipe.scheduler, seen))
            result = pipe(**{name: arguments[name] for name in arguments if name in accepted})
        if self.last:
            return result
        seen.refuse_interrupt(result.images)
        if is_transformer(pipe):
            self._table = Table.of(pipe.scheduler)
        return layout.unpack(result.images)


class _Seen:
    """Told of the steps of a pass: tells the caller, and stops the pass where it ends early."""

    def __init__(self, generation: Generation, pipe: Any) -> None:
        passes, index = generation.passes, generation.index
        self._pipe = pipe
        self._now = passes[index]
        self._tell = generation.call.on_progress
        self._layout = generation.layout
        self._place = (index, len(passes))
        self._steps = sum(each.computed for each in passes[:index])
        self._total = sum(each.computed for each in passes)
        self._begun = sum(each.work for each in passes[:index])
        self._work = sum(each.work for each in passes)
        self._seen = 0

    def __call__(self, latents: Tensor) -> None:
        now = self._now
        self._seen = min(self._seen + 1, now.computed)
        if now.stop == self._seen:
            self._pipe._interrupt = True  # diffusers' way to skip the steps that are left
        if self._tell is not None:
            fraction = (self._begun + now.work * self._seen / now.computed) / self._work
            step = (self._steps + self._seen, self._total, fraction)
            self._tell(
                Progress(
                    *step, *self._place, self._seen, now.computed, self._layout.unpack(latents)
                )
            )

    def refuse_interrupt(self, latents: Tensor) -> None:
        """End the generation if the caller interrupted this pass, by diffusers' own flag."""
        if self._seen < self._now.computed and getattr(self._pipe, "_interrupt", False):
            raise InterruptedGenerationError(
                f"pass {self._place[0] + 1} of {self._place[1]} was interrupted after "
                f"{self._seen} of {self._now.computed} steps, so the next did not begin; the "
                "error's `latents` are as it left them",
                latents,
            )


def _custom(arguments: Any) -> bool:
    return any(arguments.get(name) is not None for name in ("timesteps", "sigmas"))


def image_to_image(pipe: Any) -> Any:
    """Return a pipeline that starts from a picture and has the modules of `pipe`.

    Args:
        pipe: a text-to-image pipeline, or one that starts from a picture itself.

    Raises:
        UnsupportedPipelineError: diffusers has no such sibling.
    """
    if "strength" in parameters(pipe):
        return pipe
    build: Any = AutoPipelineForImage2Image
    try:
        sibling = build.from_pipe(pipe)
    except ValueError as error:
        raise UnsupportedPipelineError(
            f"diffusers has no image-to-image sibling of {type(pipe).__name__}, which this method "
            "needs; use hidiffusion, upsample-guidance or hidiffusion-guided with this pipeline"
        ) from error
    sibling.set_progress_bar_config(**getattr(pipe, "_progress_bar_config", {}))
    return sibling


def native_conditioning(generation: Generation) -> dict[str, tuple[int, int]]:
    """Return the arguments that tell SDXL its native size, where the caller says nothing."""
    call = generation.call
    side = round(generation.now.native**0.5)
    size = native_like(call.width, call.height, side)[::-1]
    names = ("original_size", "target_size")
    return {name: size for name in names if name not in call.arguments}


def parameters(pipe: Any) -> frozenset[str]:
    """Return the names of the keyword arguments of a pipeline's call."""
    named = inspect.signature(type(pipe).__call__).parameters.values()
    return frozenset(each.name for each in named if each.kind is not each.VAR_KEYWORD) - {"self"}
