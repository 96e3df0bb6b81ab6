"""The passes of a generation: their sizes, their steps and their work.

A pass is one run of a pipeline: over the whole schedule, from noise, or over its last steps, from
a picture that has noise added.
"""

from __future__ import annotations

import copy
import inspect
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from hidiffusion.errors import InvalidConfigError, UnsupportedPipelineError
from hidiffusion.methods.generation.call import Call
from hidiffusion.transformer.families import find_transformer, is_transformer, native_tokens
from hidiffusion.transformer.latents import token_pixels
from hidiffusion.unet.sites import find_unet, structure

#: Pictures are made in multiples of this many pixels a side.
SIZE_MULTIPLE = 8

#: Exponents of the area in the FLOPs of a U-Net call, fitted to benchmarks/results/flops.json at
#: twice and four times the native side of SD 1.5 and SDXL; within a third of every count there.
_GROWTH = {"direct": 1.3, "raunet": 1.2, "msw-msa": 1.15, "hidiffusion": 0.95}

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
        draws: what draws, a key of `hidiffusion.methods.generation.denoisers.MECHANISMS`.
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


def native_sides(call: Call, native: int) -> float:
    """Return how many native sides the side of the picture is, the root of its area."""
    return math.sqrt(call.width * call.height) / native
