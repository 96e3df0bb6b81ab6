"""What a generation asks for, and its passes: their sizes, their steps and their work.

A pass is one run of a pipeline: over the whole schedule, from noise, or over its last steps, from
a picture that has noise added.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hidiffusion.errors import InvalidConfigError, UnsupportedPipelineError
from hidiffusion.transformer.families import find_transformer, is_transformer, native_tokens
from hidiffusion.transformer.latents import token_pixels
from hidiffusion.unet.sites import find_unet, structure

#: Pictures are made in multiples of this many pixels a side.
SIZE_MULTIPLE = 8

#: Exponents of the area in the FLOPs of a U-Net call, fitted to benchmarks/results/flops.json at
#: twice and four times the native side of SD 1.5 and SDXL; within a third of every count there.
_GROWTH = {"direct": 1.3, "raunet": 1.2, "windows": 1.15, "hidiffusion": 0.95}

#: The same of transformers, whose full attention is most of the work: Flux.1 and Qwen-Image at
#: twice and four times the native side, benchmarks/results/transformer-flops.json.
_GROWTH |= {"positions": 1.4, "token-windows": 0.95}


@dataclass(frozen=True)
class Pass:
    """One run of the pipeline.

    Attributes:
        height: of what it draws, in pixels.
        width: of what it draws, in pixels.
        steps: how many steps of the schedule it takes, counted from the clean end.
        calls: how often the model is called; more than `steps` under a second-order scheduler.
        native: pixels of a picture of native size.
        draws: what draws, a key of `hidiffusion.methods.denoisers.MECHANISMS`.
        pooled_calls: further calls of the model at native size.
        stop: calls after which nothing more is computed; None runs to the end.
        full_calls: calls, from the first, that attend to everything where windows draw.
    """

    height: int
    width: int
    steps: int
    calls: int
    native: int
    draws: str = "direct"
    pooled_calls: int = 0
    stop: int | None = None
    full_calls: int = 0

    @property
    def computed(self) -> int:
        """Calls of the model that are computed."""
        return self.calls if self.stop is None else min(self.calls, self.stop)

    @property
    def work(self) -> float:
        """Work of the pass in calls of the model at native size, by a power law of the area."""
        area = self.height * self.width / self.native
        full = min(self.full_calls, self.computed)
        windowed = (self.computed - full) * math.pow(area, _GROWTH[self.draws])
        return windowed + full * math.pow(area, _GROWTH["positions"]) + self.pooled_calls


@dataclass(frozen=True)
class Progress:
    """How far a generation is, over all its passes.

    Attributes:
        step: calls of the model that are done.
        total: calls of the model in all.
        fraction: share of the work that is done; a call counts for more in a larger picture.
        pass_index: the pass under way, from 0.
        num_passes: number of passes.
        pass_step: calls of the model in this pass that are done.
        pass_total: calls of the model in this pass.
        latents: as they stand, [B, C, h, w], of the size of the pass.
    """

    step: int
    total: int
    fraction: float
    pass_index: int
    num_passes: int
    pass_step: int
    pass_total: int
    latents: Tensor = field(repr=False)


#: Hears of each step; an exception ends the generation and reaches the caller.
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class PassRun:
    """A pass that is about to run.

    Attributes:
        index: its number, from 0.
        pipe: the pipeline that runs, with the scheduler that it steps.
        generator: its random generator, or one for each sample.
        earlier: what the passes before it left to the later ones, a tensor each; None where the
            pass needs more of the past than these, so that it can only be run from the beginning.
    """

    index: int
    pipe: Any
    generator: Any
    earlier: tuple[Tensor, ...] | None = field(repr=False)


#: Gives what is to be entered around each pass, before anything that the method itself enters.
Around = Callable[[PassRun], AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one generation asks of a method.

    Attributes:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        seed: decides all noise; one for each sample of the batch if a tuple.
        arguments: keyword arguments of the pipeline.
        options: fields of the method's configuration, without the seed.
        on_progress: hears of each step.
        alive: called more often than that, between tiles of the autoencoder.
        around: entered around each pass.
        earlier: what the first passes left in an equal generation; these are not run again.
    """

    width: int
    height: int
    seed: int | tuple[int, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    on_progress: OnProgress | None = None
    alive: Callable[[], None] = lambda: None
    around: Around = lambda _: nullcontext()
    earlier: tuple[Tensor, ...] = ()

    def generator(self, index: int) -> Any:
        """Return the random generator of a pass, which earlier passes do not change."""
        seeds = self.seed if isinstance(self.seed, tuple) else (self.seed,)
        made = [torch.Generator("cpu").manual_seed(pass_seed(seed, index)) for seed in seeds]
        return made if isinstance(self.seed, tuple) else made[0]


def pass_seed(seed: int, index: int) -> int:
    """Return the seed of a pass: the request's own for the first, a hash of both for others."""
    if index == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


class Schedule(NamedTuple):
    """The whole schedule of a call.

    Attributes:
        steps: as the pipeline counts them.
        calls: of the model; more than steps under a second-order scheduler.
        order: calls that diffusers drops with a step.
    """

    steps: int
    calls: int
    order: int

    def calls_in(self, steps: int) -> int:
        """Return the calls of the model in the last `steps` steps, at least one."""
        return max(1, self.calls - (self.steps - steps) * self.order)


def schedule_of(pipe: Any, call: Call) -> Schedule:
    """Return the schedule that the pipeline will run for a call, by a copy of its scheduler.

    Raises:
        InvalidConfigError: the scheduler takes no timesteps or sigmas of the caller's.
    """
    trial = copy.deepcopy(pipe.scheduler)
    accepted = inspect.signature(trial.set_timesteps).parameters
    custom = {
        name: call.arguments[name]
        for name in ("timesteps", "sigmas")
        if call.arguments.get(name) is not None
    }
    for name, value in custom.items():
        if name not in accepted:
            raise InvalidConfigError(
                f"{type(trial).__name__} takes no {name}= (given {value!r}); give "
                "num_inference_steps, or use a scheduler that does"
            )
    if custom:
        trial.set_timesteps(**custom)
        return Schedule(len(trial.timesteps), len(trial.timesteps), trial.order)
    steps = int(argument(pipe, call, "num_inference_steps", 50))
    dynamic = getattr(trial.config, "use_dynamic_shifting", False)
    trial.set_timesteps(steps, **({"mu": 1.0} if dynamic else {}))
    return Schedule(steps, len(trial.timesteps), trial.order)


def argument(pipe: Any, call: Call, name: str, otherwise: Any) -> Any:
    """Return an argument of the call, else the pipeline's own default, else `otherwise`."""
    given = call.arguments.get(name)
    if given is not None:
        return given
    declared = inspect.signature(type(pipe).__call__).parameters.get(name)
    known = declared is not None and declared.default not in (None, inspect.Parameter.empty)
    return declared.default if declared is not None and known else otherwise


def whole(pipe: Any, call: Call, width: int, height: int, **more: Any) -> Pass:
    """Return a pass over all that the call asks of the pipeline: from noise, or its own strength.

    Args:
        pipe: a diffusers pipeline.
        call: what is asked for.
        width: of what it draws, in pixels.
        height: of what it draws, in pixels.
        **more: further fields of `Pass`.
    """
    schedule = schedule_of(pipe, call)
    takes_strength = "strength" in inspect.signature(type(pipe).__call__).parameters
    strength = argument(pipe, call, "strength", 1.0) if takes_strength else 1.0
    steps = max(1, min(int(schedule.steps * strength), schedule.steps))
    return tail(pipe, schedule, width, height, steps, **more)


def tail(pipe: Any, schedule: Schedule, width: int, height: int, steps: int, **more: Any) -> Pass:
    """Return a pass over the last `steps` steps of a schedule; the rest as in `whole`."""
    native = more.pop("native", None) or native_pixels(pipe)
    return Pass(height, width, steps, schedule.calls_in(steps), native**2, **more)


def native_pixels(pipe: Any, native_size: int | None = None) -> int:
    """Return the side of the pictures that the pipeline's model was trained on, in pixels.

    Args:
        pipe: a diffusers pipeline.
        native_size: the same in latents, or in tokens of a transformer, where the caller knows
            better than the model.

    Raises:
        UnsupportedPipelineError: the model does not tell.
    """
    if is_transformer(pipe):
        return (native_size or native_tokens(find_transformer(pipe))) * token_pixels(pipe)
    if native_size is None and isinstance(getattr(pipe, "unet", None), torch.nn.Module):
        native_size = structure(find_unet(pipe)).native_size
    elif native_size is None:
        model = getattr(pipe, "transformer", None)
        native_size = getattr(getattr(model, "config", None), "sample_size", None)
    if native_size is None:
        raise UnsupportedPipelineError(
            f"the model of {type(pipe).__name__} has no sample_size in its config, so its native "
            "size is unknown; give native_size, the side of its training pictures in latents"
        )
    return int(native_size) * int(pipe.vae_scale_factor)


def native_like(
    width: int, height: int, native: int, multiple: int = SIZE_MULTIPLE
) -> tuple[int, int]:
    """Return width and height of the same shape and of native area, in multiples of some pixels."""
    return sized(width, height, native / math.sqrt(width * height), multiple)


def sized(width: int, height: int, factor: float, multiple: int = SIZE_MULTIPLE) -> tuple[int, int]:
    """Return width and height times a factor, in multiples of some pixels."""

    def side(pixels: int) -> int:
        return max(multiple, round(pixels * factor / multiple) * multiple)

    return side(width), side(height)


def require_enlargement(method: str, call: Call, native: int, least: float) -> float:
    """Return how many native sides the picture's side is.

    Raises:
        InvalidConfigError: it is less than the method needs.
    """
    enlargement = math.sqrt(call.width * call.height) / native
    if enlargement < least:
        raise InvalidConfigError(
            f"{call.width}x{call.height} is {enlargement:.2f} times the native {native}x{native}; "
            f"{method} needs {least:g} times or more: ask for a larger picture, or use the method "
            "direct"
        )
    return enlargement
