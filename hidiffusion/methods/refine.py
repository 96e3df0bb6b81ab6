"""A native picture of a diffusion transformer, enlarged and drawn again in its last steps.

The model draws the layout at the size that it was trained for. The picture is enlarged, noise of a
late step is added, and the rest is drawn at full size with attention in windows, while the low band
of the predicted x0 is held to the native picture with a weight that falls to 0. HiFlow (Bu et al.,
arXiv 2504.06232) holds it so, without windows, and adds the acceleration that is an option here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hidiffusion.decode.errors import UnsupportedAutoencoderError
from hidiffusion.errors import InvalidConfigError, UnsupportedPipelineError
from hidiffusion.methods.generation.call import Call
from hidiffusion.methods.generation.check import require_autoencoder, require_x0
from hidiffusion.methods.generation.generation import Generation, parameters
from hidiffusion.methods.generation.passes import (
    Pass,
    native_like,
    native_pixels,
    schedule_of,
    tail,
    whole,
)
from hidiffusion.methods.guidance.reference import ReferenceConfig, draw_native, enlarged, low_band
from hidiffusion.methods.method import BEYOND_NATIVE, Method
from hidiffusion.methods.token_windows import TokenWindowsConfig, with_full_calls
from hidiffusion.methods.x0 import Adjust, Fade, Moment, Weight, adjusted_x0
from hidiffusion.options import option
from hidiffusion.transformer.latents import token_pixels
from hidiffusion.transformer.patch import patched


@dataclass(frozen=True, kw_only=True)
class RefineConfig(ReferenceConfig, TokenWindowsConfig):
    """Settings of the refinement.

    Attributes:
        full_share: fraction of the large steps with full attention; 0, for the native picture
            holds the whole together.
        strength: fraction of the schedule that is drawn at full size. HiFlow draws 16 of 30 steps
            at twice and 10 of 30 at four times native.
        band_weight: how far the low band is moved to the reference's, in the first large step; it
            falls to 0 in a straight line.
        acceleration: how much of the last step's difference from the reference is carried on, in
            the first large step; it falls likewise. HiFlow takes 0.5, with the trajectory.
        guidance_scale: guidance of the large steps; None is the request's. HiFlow takes 4.5 at
            twice and 6 at four times native with Flux.1, whose guidance is embedded.
    """

    full_share: float = option(
        0.0, "Fraction of the large steps with full attention.", minimum=0, maximum=1
    )
    strength: float = option(
        1 / 3, "Fraction of the schedule drawn at full size.", minimum=0.05, maximum=1
    )
    band_weight: float = option(
        1.0, "How far the low band moves to the reference's at first.", minimum=0, maximum=2
    )
    acceleration: float = option(
        0.0, "How much of the last difference from the reference goes on.", minimum=0, maximum=1
    )
    guidance_scale: float | None = option(
        None, "Guidance of the large steps; null is the request's.", minimum=0, maximum=100
    )


class Acceleration:
    """Carries the difference from the reference on from step to step (HiFlow, equation 12).

    HiFlow says it of velocities: v += b (v_before + vr - vr_before - v), with v = (x - x0) / sigma.
    In that x cancels, so of x0 it says: x0 goes to the reference plus the difference that the step
    before ended with, times the ratio of the noise levels.

    Args:
        reference: gives the reference's x0 at a moment.
        weight: b, by moment.
    """

    def __init__(self, reference: Callable[[Moment], Tensor], weight: Weight) -> None:
        self._reference = reference
        self._weight = weight
        self._before: tuple[Tensor, float] | None = None

    def __call__(self, x0: Tensor, moment: Moment) -> Tensor:
        reference = self._reference(moment).to(x0)
        before, self._before = self._before, None
        if before is not None:
            difference, time = before
            goal = reference + difference * (moment.time / time)
            x0 = torch.lerp(x0, goal, self._weight(moment))
        self._before = (x0 - reference, moment.time)
        return x0


def plan(pipe: Any, call: Call, config: RefineConfig) -> list[Pass]:
    """Return the passes of one generation."""
    native = native_pixels(pipe, config.native_size)
    schedule = schedule_of(pipe, call)
    steps = max(1, round(config.strength * schedule.steps))
    size = native_like(call.width, call.height, native, token_pixels(pipe))
    more: dict[str, Any] = {"draws": "token-windows", "native": native}
    large = tail(pipe, schedule, call.width, call.height, steps, **more)
    return [whole(pipe, call, *size, native=native), with_full_calls(large, config)]


def check(pipe: Any, call: Call, config: RefineConfig) -> None:
    """Say what else would fail later."""
    if "latents" not in parameters(pipe) or "strength" in parameters(pipe):
        raise UnsupportedPipelineError(
            f"{type(pipe).__name__} starts from a picture, but refine draws its own first; use the "
            "text-to-image pipeline, or the method token-windows"
        )
    if call.arguments.get("latents") is not None:
        raise InvalidConfigError(
            "latents are given, but refine starts its second pass from latents of its own; leave "
            "them out"
        )
    require_x0(pipe, call)
    if config.space == "pixels":
        try:
            require_autoencoder(pipe)
        except UnsupportedAutoencoderError as error:
            raise UnsupportedAutoencoderError(
                f"{error}; refine with space='latents' enlarges without it"
            ) from error


def draw(generation: Generation, config: RefineConfig, before: Tensor | None) -> Any:
    """Run one pass: the native picture, or the large one that begins with it."""
    if before is None:
        return draw_native(generation, config)
    path, large = generation.trajectory, enlarged(generation, config.space, before)
    weight = Fade(config.band_weight, fade=1)
    guides: list[Adjust] = [low_band(generation, config.splitter, before, large, weight)]
    if config.acceleration:
        reference = (lambda _: large) if path is None else path.at
        guides.append(Acceleration(reference, Fade(config.acceleration, fade=1)))
    guidance = {} if config.guidance_scale is None else {"guidance_scale": config.guidance_scale}
    return generation.refine(
        large,
        lambda pipe: _guided(generation, pipe, guides),
        lambda pipe: patched(pipe, config.transformer()),
        **guidance,
    )


@contextmanager
def _guided(generation: Generation, pipe: Any, guides: list[Adjust]) -> Iterator[None]:
    with ExitStack() as stack:
        for guide in guides:
            packed = generation.layout.adjusting(guide)
            stack.enter_context(adjusted_x0(pipe.scheduler, packed))
        yield


METHODS = (
    Method(
        name="refine",
        models="transformer",
        summary="a transformer's native picture, enlarged and finished in windows under its band",
        config_type=RefineConfig,
        plan=plan,
        draw=draw,
        check=check,
        min_scale=BEYOND_NATIVE,
        starts_from_pictures=True,
    ),
)
