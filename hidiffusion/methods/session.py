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
from torch import Tensor

from hidiffusion.errors import UnsupportedPipelineError
from hidiffusion.methods.codec import Codec
from hidiffusion.methods.passes import Order, Pass, Progress, Run, native_like, native_pixels
from hidiffusion.methods.pictures import fitted
from hidiffusion.methods.steps import observed_steps

#: Names under which pipelines take a picture that has to have the size of the pass.
_PICTURES = ("image", "mask_image", "control_image")


class Session:
    """Runs the passes of one generation.

    Args:
        pipe: a diffusers pipeline.
        order: what was asked for.
        passes: all passes, in order.
    """

    def __init__(self, pipe: Any, order: Order, passes: Sequence[Pass]) -> None:
        self.pipe = pipe
        self.order = order
        self.passes = tuple(passes)
        self.codec = Codec(pipe.vae, order.alive)
        self._stage = 0
        self._done = 0
        self._left: list[Tensor] | None = []

    @property
    def dtype(self) -> torch.dtype:
        """What the pipeline's model computes in."""
        model = getattr(self.pipe, "unet", None) or self.pipe.transformer
        dtype: torch.dtype = model.dtype
        return dtype

    @property
    def guidance_scale(self) -> float:
        """Classifier-free guidance asked for, or the pipeline's own default."""
        declared = inspect.signature(type(self.pipe).__call__).parameters["guidance_scale"]
        return float(self.order.call.get("guidance_scale", declared.default))

    @property
    def now(self) -> Pass:
        """The pass that runs next."""
        return self.passes[self._stage]

    @property
    def left(self) -> int:
        """Passes that have not run yet."""
        return len(self.passes) - self._stage

    def leaving(self, make: Callable[[], Tensor]) -> Tensor:
        """Run the next pass for the one tensor that the later passes need of it.

        Where an equal generation has left that tensor before, it is taken as it is.

        Args:
            make: runs the pass.
        """
        if self._stage < len(self.order.earlier):
            left = self.order.earlier[self._stage]
            self._finish()
        else:
            left = make()
        if self._left is not None:
            self._left.append(left)
        return left

    def forgo_resuming(self) -> None:
        """Say that later passes need more of this one than a tensor: nothing can be skipped."""
        self._left = None

    def draw(self, *contexts: AbstractContextManager[Any], **changes: Any) -> Any:
        """Run the next pass over the whole schedule, from noise.

        Args:
            *contexts: entered around the run.
            **changes: arguments of the pipeline in the place of the order's.

        Returns:
            The pipeline's output.
        """
        return self._run(self.pipe, self._sized_call() | changes, contexts)

    def refine(
        self, latents: Tensor, *contexts: AbstractContextManager[Any], **changes: Any
    ) -> Any:
        """Run the next pass over the last steps of the schedule.

        Args:
            latents: the clean picture that it starts from, noise not yet added, of its size.
            *contexts: entered around the run.
            **changes: arguments of the pipeline in the place of the order's.

        Returns:
            The pipeline's output.
        """
        now, steps = self.now, self.order.num_inference_steps
        sibling = image_to_image(self.pipe)
        arguments = self._sized_call()
        if "control_image" in _parameters(sibling) and "control_image" not in arguments:
            arguments["control_image"] = arguments.pop("image", None)
        if "mask_image" in arguments:
            latents = self._repainted(sibling, latents, arguments)
        # Half a step more than the steps, so that rounding down never loses one.
        changes = {"image": latents, "strength": min(1.0, (now.steps + 0.5) / steps), **changes}
        return self._run(sibling, arguments | changes, contexts)

    def _repainted(self, pipe: Any, latents: Tensor, arguments: dict[str, Any]) -> Tensor:
        """Decode latents, and put the caller's own picture back where the mask keeps it."""
        picture = self.codec.picture(latents)
        size = (self.now.height, self.now.width)
        kept = pipe.image_processor.preprocess(arguments["image"], *size).to(picture) / 2 + 0.5
        mask = pipe.mask_processor.preprocess(arguments["mask_image"], *size).to(picture)
        whole: Tensor = picture * mask + kept * (1 - mask)
        return whole

    def _sized_call(self) -> dict[str, Any]:
        """Return the order's arguments of the pipeline, brought to the size of the pass."""
        size = {"width": self.now.width, "height": self.now.height}
        call = self.order.call
        pictures = {name: fitted(call[name], **size) for name in _PICTURES if name in call}
        return {**call, **pictures, **size}

    def _run(
        self,
        pipe: Any,
        arguments: dict[str, Any],
        contexts: Sequence[AbstractContextManager[Any]],
    ) -> Any:
        accepted = _parameters(pipe)
        arguments["generator"] = self.order.generator(self._stage)
        earlier = None if self._left is None else tuple(self._left)
        run = Run(self._stage, pipe, arguments["generator"], earlier)
        with ExitStack() as stack:
            stack.enter_context(self.order.around(run))
            for context in contexts:
                stack.enter_context(context)
            stack.enter_context(observed_steps(pipe.scheduler, self._observer(pipe)))
            result = pipe(**{name: arguments[name] for name in arguments if name in accepted})
        self._finish()
        return result

    def _finish(self) -> None:
        self._done += self.now.computed
        self._stage += 1

    def _observer(self, pipe: Any) -> Callable[[Tensor], None]:
        now, seen = self.now, 0
        begun = sum(before.work for before in self.passes[: self._stage])
        total = sum(each.computed for each in self.passes)
        work = sum(each.work for each in self.passes)

        def observe(latents: Tensor) -> None:
            nonlocal seen
            seen = min(seen + 1, now.computed)
            if now.stop == seen:
                pipe._interrupt = True  # diffusers' way to skip the steps that are left
            if self.order.on_progress is not None:
                fraction = (begun + now.work * seen / now.computed) / work
                place = (self._stage, len(self.passes), seen, now.computed)
                report = Progress(self._done + seen, total, fraction, *place, latents)
                self.order.on_progress(report)

        return observe


def image_to_image(pipe: Any) -> Any:
    """Return a pipeline that starts from a picture and has the modules of `pipe`.

    Args:
        pipe: a text-to-image pipeline, or one that starts from a picture itself.

    Raises:
        UnsupportedPipelineError: diffusers has no such sibling.
    """
    if "strength" in _parameters(pipe):
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


def native_conditioning(session: Session) -> dict[str, tuple[int, int]]:
    """Return the arguments that tell SDXL its native size, where the caller says nothing."""
    order = session.order
    size = native_like(order.width, order.height, native_pixels(session.pipe))[::-1]
    names = ("original_size", "target_size")
    return {name: size for name in names if name not in order.call}


def _parameters(pipe: Any) -> frozenset[str]:
    return frozenset(inspect.signature(type(pipe).__call__).parameters)
