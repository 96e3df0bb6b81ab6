"""HiDiffusion's windows with the resolution refresh of RectifiedHR (arXiv 2503.02537).

Most of the schedule is drawn at native size. Then the predicted x0 is enlarged as a picture, noise
of the step is added again, and the last steps are drawn larger, with stronger guidance in place of
the energy that pictures lose when they are enlarged.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hidiffusion.errors import InvalidConfigError, UnsupportedPipelineError
from hidiffusion.knobs import check, knob
from hidiffusion.methods.codec import ready
from hidiffusion.methods.denoisers import DENOISERS, denoiser, late
from hidiffusion.methods.diffuse_high import stage_sizes
from hidiffusion.methods.passes import (
    Order,
    Pass,
    native_like,
    native_pixels,
    require_scale,
    tail,
    whole,
)
from hidiffusion.methods.pictures import upsampled
from hidiffusion.methods.session import Session, image_to_image, native_conditioning
from hidiffusion.methods.steps import adjusted_x0
from hidiffusion.methods.weights import Moment

#: The least enlargement for which a refresh enlarges anything to speak of.
MIN_SCALE = 1.25
#: Most refreshes, and the steps that leave one for each and one before.
_MAX_STAGES = 8
MIN_STEPS = _MAX_STAGES + 1


@dataclass(frozen=True, kw_only=True)
class RefreshConfig:
    """Settings of the resolution refresh; the times are RectifiedHR's for 2048x2048.

    Attributes:
        seed: the request's seed or seeds, for the denoiser.
        num_stages: refreshes; None takes one for each native side. RectifiedHR takes 1 at twice
            and 3 at four times native.
        refresh_at: fraction of the steps before the first refresh.
        guidance_scale: classifier-free guidance after the last refresh; those between rise to it.
            RectifiedHR takes 30 at twice and 50 at four times native with SDXL; None keeps that of
            the native pass, since more burns small models.
        denoiser: what draws after a refresh; of HiDiffusion only the windows act so late.
    """

    seed: int | tuple[int, ...] | None = None
    num_stages: int | None = knob(
        None, "Refreshes; null is one a native side.", minimum=1, maximum=_MAX_STAGES
    )
    refresh_at: float = knob(
        0.8, "Fraction of the steps before the first refresh.", minimum=0.1, maximum=0.95
    )
    guidance_scale: float | None = knob(
        None, "Guidance after the last refresh; null is the request's.", minimum=0, maximum=100
    )
    denoiser: str = knob("hidiffusion", "What draws after a refresh.", words=DENOISERS)

    def __post_init__(self) -> None:
        check(self)


def plan(pipe: Any, order: Order, config: RefreshConfig) -> list[Pass]:
    """Return the passes of one generation.

    Raises:
        InvalidConfigError: the picture is too small for the method.
    """
    native = native_pixels(pipe)
    scale = require_scale("hidiffusion-refresh", order, native, MIN_SCALE)
    stages = stage_sizes(order.width, order.height, scale, config.num_stages)
    left = _tails(order.num_inference_steps, config.refresh_at, len(stages))
    passes = [
        whole(pipe, order, *native_like(order.width, order.height, native)),
        *(
            tail(pipe, order, *size, steps, draws=late(config.denoiser))
            for size, steps in zip(stages, left, strict=True)
        ),
    ]
    stops = [before.calls - after.calls for before, after in itertools.pairwise(passes)]
    return [replace(each, stop=stop) for each, stop in zip(passes, [*stops, None], strict=True)]


def _tails(steps: int, refresh_at: float, stages: int) -> list[int]:
    """Return the steps that are left after each refresh, the refreshes being evenly spread."""
    if steps <= stages:
        raise InvalidConfigError(
            f"num_inference_steps is {steps!r}; {stages} refreshes need at least {stages + 1}"
        )
    left = [(1 - refresh_at) * steps * count / stages for count in range(stages, 0, -1)]
    return [max(stages - stage, int(each + 0.5)) for stage, each in enumerate(left)]


def generate(pipe: Any, order: Order, config: RefreshConfig) -> Any:
    """Draw a picture.

    Args:
        pipe: a diffusers pipeline that starts from a picture, or has a sibling that does.
        order: what is asked for.
        config: the settings.

    Returns:
        The output of the last pass's pipeline.

    Raises:
        InvalidConfigError: the picture is too small for the method.
        UnsupportedPipelineError: the pipeline cannot be interrupted, or diffusers cannot start
            from a picture with it.
    """
    for each in (pipe, image_to_image(pipe)):
        if not hasattr(type(each), "interrupt"):
            raise UnsupportedPipelineError(
                f"{type(each).__name__} cannot be interrupted at a step, which a refresh needs; "
                "use hidiffusion-guided with this pipeline"
            )
    session = Session(pipe, order, plan(pipe, order, config))
    with torch.no_grad(), ready(pipe.vae):
        first = functools.partial(session.draw, output_type="latent")
        x0 = session.leaving(functools.partial(_last_x0, session, first))
        while session.left > 1:
            latents = _enlarged(session, x0)
            larger = functools.partial(_refine, session, latents, config, output_type="latent")
            x0 = session.leaving(functools.partial(_last_x0, session, larger))
        return _refine(session, _enlarged(session, x0), config)


def _refine(
    session: Session,
    latents: Tensor,
    config: RefreshConfig,
    *contexts: AbstractContextManager[Any],
    **changes: Any,
) -> Any:
    base = session.guidance_scale
    last = base if config.guidance_scale is None else config.guidance_scale
    share = 1 - (session.left - 1) / (len(session.passes) - 1)
    return session.refine(
        latents,
        denoiser(session.pipe, session.now.draws, config.seed),
        *contexts,
        guidance_scale=base + (last - base) * share,
        **native_conditioning(session),
        **changes,
    )


def _enlarged(session: Session, x0: Tensor) -> Tensor:
    picture = upsampled(session.codec.picture(x0), session.now.height, session.now.width)
    return session.codec.latents(picture).to(session.dtype)


def _last_x0(session: Session, run: Callable[..., Any]) -> Tensor:
    """Run a pass and return the x0 that it predicted last."""
    newest: list[Tensor] = []

    def keep(x0: Tensor, moment: Moment) -> Tensor:
        del moment
        newest[:] = [x0]
        return x0

    run(adjusted_x0(session.pipe.scheduler, keep, total=session.now.calls))
    return newest[-1]
