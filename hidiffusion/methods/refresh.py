"""HiDiffusion's windows with the resolution refresh of RectifiedHR (arXiv 2503.02537).

Most of the schedule is drawn at native size. Then the predicted x0 is enlarged as a picture, noise
of the step is added again, and the last steps are drawn larger, with stronger guidance in place of
the energy that pictures lose when they are enlarged.
"""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from hidiffusion.errors import InvalidConfigError
from hidiffusion.methods.diffuse_high import pass_sizes
from hidiffusion.methods.generation.call import Call
from hidiffusion.methods.generation.check import require_stages
from hidiffusion.methods.generation.denoisers import DENOISERS, DenoiserConfig, denoiser, late
from hidiffusion.methods.generation.generation import Enter, Generation, native_conditioning
from hidiffusion.methods.generation.passes import (
    Pass,
    native_like,
    native_pixels,
    native_sides,
    schedule_of,
    tail,
    whole,
)
from hidiffusion.methods.guidance.reference import enlarged
from hidiffusion.methods.method import BEYOND_NATIVE, Method
from hidiffusion.methods.x0 import Moment, adjusted_x0
from hidiffusion.options import option

#: Most refreshes, and the steps that leave one for each and one before.
_MAX_STAGES = 8
MIN_STEPS = _MAX_STAGES + 1


@dataclass(frozen=True, kw_only=True)
class RefreshConfig(DenoiserConfig):
    """Settings of the resolution refresh; the times are RectifiedHR's for 2048x2048.

    Attributes:
        num_stages: refreshes; None takes one for each native side. RectifiedHR takes 1 at twice
            and 3 at four times native.
        refresh_at: fraction of the steps before the first refresh.
        guidance_scale: classifier-free guidance after the last refresh; those between rise to it.
            RectifiedHR takes 30 at twice and 50 at four times native with SDXL; None keeps that of
            the native pass, since more burns small models.
        denoiser: what draws after a refresh; of HiDiffusion only the windows act so late.
    """

    num_stages: int | None = option(
        None, "Refreshes; null is one a native side.", minimum=1, maximum=_MAX_STAGES
    )
    refresh_at: float = option(
        0.8, "Fraction of the steps before the first refresh.", minimum=0.1, maximum=0.95
    )
    guidance_scale: float | None = option(
        None, "Guidance after the last refresh; null is the request's.", minimum=0, maximum=100
    )
    denoiser: str = option("hidiffusion", "What draws after a refresh.", words=DENOISERS)


def plan(pipe: Any, call: Call, config: RefreshConfig) -> list[Pass]:
    """Return the passes of one generation.

    Raises:
        InvalidConfigError: the steps are too few.
    """
    native = native_pixels(pipe, config.native_size)
    sides = native_sides(call, native)
    stages = pass_sizes(call.width, call.height, sides, config.num_stages)
    schedule = schedule_of(pipe, call)
    more: dict[str, Any] = {"draws": late(config.denoiser), "native": native}
    passes = [
        whole(pipe, call, *native_like(call.width, call.height, native), native=native),
        *(
            tail(pipe, schedule, *size, steps, **more)
            for size, steps in zip(
                stages, _tails(schedule.steps, config.refresh_at, len(stages)), strict=True
            )
        ),
    ]
    # Strength may leave an image-to-image call no step before the first refresh. The native pass
    # has one all the same, which predicts what is refreshed.
    stops = [max(1, before.calls - after.calls) for before, after in itertools.pairwise(passes)]
    return [replace(each, stop=stop) for each, stop in zip(passes, [*stops, None], strict=True)]


def _tails(steps: int, refresh_at: float, stages: int) -> list[int]:
    """Return the steps that are left after each refresh, the refreshes being evenly spread."""
    if steps <= stages:
        raise InvalidConfigError(
            f"num_inference_steps is {steps!r}; {stages} refreshes need at least {stages + 1}"
        )
    left = [(1 - refresh_at) * steps * count / stages for count in range(stages, 0, -1)]
    return [max(stages - stage, int(each + 0.5)) for stage, each in enumerate(left)]


def draw(generation: Generation, config: RefreshConfig, before: Tensor | None) -> Any:
    """Run one pass; all but the last leave the x0 that they predicted last."""
    newest: list[Tensor] = []

    def keep(x0: Tensor, moment: Moment) -> Tensor:
        del moment
        newest[:] = [x0]
        return x0

    def kept(pipe: Any) -> AbstractContextManager[None]:
        return nullcontext() if generation.last else adjusted_x0(pipe.scheduler, keep)

    output = generation.draw(kept) if before is None else _refine(generation, config, before, kept)
    return output if generation.last else newest[-1]


def _refine(generation: Generation, config: RefreshConfig, x0: Tensor, kept: Enter) -> Any:
    now = generation.now
    base = generation.guidance_scale
    last = base if config.guidance_scale is None else config.guidance_scale
    share = generation.index / (len(generation.passes) - 1)
    return generation.refine(
        enlarged(generation, "pixels", x0).to(generation.dtype),
        lambda pipe: denoiser(pipe, now.draws, config.hidiffusion()),
        kept,
        guidance_scale=base + (last - base) * share,
        **native_conditioning(generation),
    )


METHODS = (
    Method(
        name="hidiffusion-refresh",
        summary="native size for most steps, then enlarged and finished with windowed attention",
        config_type=RefreshConfig,
        plan=plan,
        draw=draw,
        check=partial(require_stages, interrupted=True),
        min_scale=BEYOND_NATIVE,
        min_steps=MIN_STEPS,
        starts_from_pictures=True,
    ),
)
