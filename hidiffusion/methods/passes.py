"""What a generation consists of: its passes, their sizes, their steps and their work.

A pass is one run of a pipeline: over the whole schedule, from noise, or over its last steps, from
a picture that has noise added.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hidiffusion.errors import InvalidConfigError, UnsupportedPipelineError

#: Pictures are made in multiples of this many pixels a side.
SIZE_MULTIPLE = 8

#: Exponents of the area in the FLOPs of a U-Net call, fitted to benchmarks/results/flops.json at
#: twice and four times the native side of SD 1.5 and SDXL; within a third of every count there.
_GROWTH = {"direct": 1.3, "raunet": 1.2, "windows": 1.15, "hidiffusion": 0.95}


@dataclass(frozen=True)
class Pass:
    """One run of the pipeline.

    Attributes:
        height: of what it draws, in pixels.
        width: of what it draws, in pixels.
        steps: how many steps of `num_inference_steps` it takes, counted from the clean end.
        calls: how often the model is called; more than `steps` under a second-order scheduler.
        native: pixels of a picture of native size.
        draws: what draws, a key of `hidiffusion.methods.denoisers.MECHANISMS`.
        pooled_calls: further calls of the model at native size.
        stop: calls after which nothing more is computed; None runs to the end.
    """

    height: int
    width: int
    steps: int
    calls: int
    native: int
    draws: str = "direct"
    pooled_calls: int = 0
    stop: int | None = None

    @property
    def computed(self) -> int:
        """Calls of the model that are computed."""
        return self.calls if self.stop is None else min(self.calls, self.stop)

    @property
    def work(self) -> float:
        """Work of the pass in calls of the model at native size, by a power law of the area."""
        area = self.height * self.width / self.native
        return self.computed * math.pow(area, _GROWTH[self.draws]) + self.pooled_calls


@dataclass(frozen=True)
class Progress:
    """How far a generation is, over all its passes.

    Attributes:
        step: calls of the model that are done.
        total: calls of the model in all.
        fraction: share of the work that is done; a call counts for more in a larger picture.
        stage: the pass under way, from 0.
        stages: number of passes.
        stage_step: calls of the model in this pass that are done.
        stage_total: calls of the model in this pass.
        latents: as they stand, [B, C, h, w], of the size of the pass.
    """

    step: int
    total: int
    fraction: float
    stage: int
    stages: int
    stage_step: int
    stage_total: int
    latents: Tensor = field(repr=False)


#: Hears of each step; an exception ends the generation and reaches the caller.
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Run:
    """A pass that is about to run.

    Attributes:
        stage: its number, from 0.
        pipe: the pipeline that runs, with the scheduler that it steps.
        generator: its random generator, or one for each sample.
        earlier: what the passes before it left to the later ones, a tensor each; None where the
            pass needs more of the past than these, so that it can only be run from the beginning.
    """

    stage: int
    pipe: Any
    generator: Any
    earlier: tuple[Tensor, ...] | None = field(repr=False)


#: Gives what is to be entered around each pass, before anything that the method itself enters.
Around = Callable[[Run], AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What one generation asks of a method.

    Attributes:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        seed: decides all noise; one for each sample of the batch if a tuple.
        call: keyword arguments of the pipeline.
        on_progress: hears of each step.
        alive: called more often than that, between tiles of the autoencoder.
        around: entered around each pass.
        earlier: what the first passes left in an equal generation; these are not run again.
    """

    width: int
    height: int
    seed: int | tuple[int, ...]
    call: dict[str, Any]
    on_progress: OnProgress | None = None
    alive: Callable[[], None] = lambda: None
    around: Around = lambda _: nullcontext()
    earlier: tuple[Tensor, ...] = ()

    @property
    def num_inference_steps(self) -> int:
        """Steps asked for, or diffusers' usual 50."""
        return int(self.call.get("num_inference_steps") or 50)

    def generator(self, stage: int) -> Any:
        """Return the random generator of a pass, which earlier passes do not change."""
        seeds = self.seed if isinstance(self.seed, tuple) else (self.seed,)
        made = [torch.Generator("cpu").manual_seed(stage_seed(seed, stage)) for seed in seeds]
        return made if isinstance(self.seed, tuple) else made[0]


def stage_seed(seed: int, stage: int) -> int:
    """Return the seed of a pass: the request's own for the first, a hash of both for others."""
    if stage == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{stage}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def whole(pipe: Any, order: Order, width: int, height: int, **more: Any) -> Pass:
    """Return a pass over all that the order asks of the pipeline: from noise, or its own strength.

    Args:
        pipe: a diffusers pipeline.
        order: what is asked for.
        width: of what it draws, in pixels.
        height: of what it draws, in pixels.
        **more: further fields of `Pass`.
    """
    steps = order.num_inference_steps
    declared = inspect.signature(type(pipe).__call__).parameters.get("strength")
    strength = 1.0 if declared is None else order.call.get("strength", declared.default)
    return tail(pipe, order, width, height, max(1, min(int(steps * strength), steps)), **more)


def tail(pipe: Any, order: Order, width: int, height: int, steps: int, **more: Any) -> Pass:
    """Return a pass over the last `steps` steps; arguments as in `whole`."""
    calls = calls_of(pipe.scheduler, order.num_inference_steps, steps)
    return Pass(height, width, steps, calls, native_pixels(pipe) ** 2, **more)


def calls_of(scheduler: Any, num_inference_steps: int, steps: int | None = None) -> int:
    """Return how often a model is called in the last `steps` steps of a run, or in all.

    Args:
        scheduler: a diffusers scheduler; it is left as it is.
        num_inference_steps: steps of the whole schedule.
        steps: steps taken; None for all.
    """
    trial = copy.deepcopy(scheduler)
    dynamic = getattr(trial.config, "use_dynamic_shifting", False)
    trial.set_timesteps(num_inference_steps, **({"mu": 1.0} if dynamic else {}))
    skipped = 0 if steps is None else (num_inference_steps - steps) * trial.order
    return max(1, len(trial.timesteps) - skipped)


def native_pixels(pipe: Any) -> int:
    """Return the side of the pictures that the pipeline's model was trained on, in pixels.

    Raises:
        UnsupportedPipelineError: the model does not tell.
    """
    model = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    side = getattr(getattr(model, "config", None), "sample_size", None)
    if side is None:
        raise UnsupportedPipelineError(
            f"the model of {type(pipe).__name__} has no sample_size in its config, so its native "
            "size is unknown; use a pipeline whose model tells it"
        )
    side = min(side) if isinstance(side, list | tuple) else side
    return int(side) * int(pipe.vae_scale_factor)


def native_like(width: int, height: int, native: int) -> tuple[int, int]:
    """Return width and height of the same shape and of native area, in multiples of 8 pixels."""
    return sized(width, height, native / math.sqrt(width * height))


def sized(width: int, height: int, factor: float) -> tuple[int, int]:
    """Return width and height times a factor, in multiples of 8 pixels."""

    def side(pixels: int) -> int:
        return max(SIZE_MULTIPLE, round(pixels * factor / SIZE_MULTIPLE) * SIZE_MULTIPLE)

    return side(width), side(height)


def require_scale(method: str, order: Order, native: int, least: float) -> float:
    """Return how many native sides the picture's side is.

    Raises:
        InvalidConfigError: it is less than the method needs.
    """
    scale = math.sqrt(order.width * order.height) / native
    if scale < least:
        raise InvalidConfigError(
            f"{order.width}x{order.height} is {scale:.2f} times the native {native}x{native}; "
            f"{method} needs {least:g} times or more: ask for a larger picture, or use the method "
            "direct"
        )
    return scale
