"""HiDiffusion with its low band held to a picture of native size.

HiDiffusion alone draws fast, and loses the global structure from about four native sides on. A
picture of native size has that structure. FAM diffusion (arXiv 2411.18552, CVPR 2025) holds the low
frequencies of the large picture to it in the Fourier domain; here this is done to the predicted x0,
with HiDiffusion as the model that draws. Its modulation of attention is an option.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from hidiffusion.methods.generation.call import Call
from hidiffusion.methods.generation.check import (
    require_autoencoder,
    require_denoiser,
    require_image_to_image,
    require_x0,
)
from hidiffusion.methods.generation.denoisers import DENOISERS, DenoiserConfig, denoiser, late
from hidiffusion.methods.generation.generation import Generation
from hidiffusion.methods.generation.passes import (
    Pass,
    native_like,
    native_pixels,
    schedule_of,
    tail,
    whole,
)
from hidiffusion.methods.guidance.modulation import modulated_attention
from hidiffusion.methods.guidance.reference import ReferenceConfig, draw_native, enlarged, low_band
from hidiffusion.methods.method import BEYOND_NATIVE, Method
from hidiffusion.methods.x0 import Fade, adjusted_x0
from hidiffusion.options import option


@dataclass(frozen=True, kw_only=True)
class GuidedConfig(ReferenceConfig, DenoiserConfig):
    """Settings of HiDiffusion under low-band guidance.

    Attributes:
        band_weight: how far the low band is moved to the reference's.
        band_end: fraction of the steps after which it is free. Freed early, a small model went
            back to what it drew without guidance.
        band_fade: share of the weight that is gone at that point.
        strength: fraction of the schedule that the large picture is drawn with. 1 starts from
            noise, less from the enlarged native result with noise added.
        t1_ratio: `HiDiffusionConfig.t1_ratio` of that denoiser; None is published.
        t2_ratio: `HiDiffusionConfig.t2_ratio` of it; None is published.
        attention_weight: share of the attention maps of native size in those of the first up block
            with attention. The model is asked at native size in each step of the large picture,
            unless it is 0.
    """

    band_weight: float = option(
        1.0, "How far the low band moves to the reference's.", minimum=0, maximum=2
    )
    band_end: float = option(
        1.0, "Fraction of the steps with the low band held.", minimum=0, maximum=1
    )
    band_fade: float = option(
        0.0, "Share of the weight that is gone at that point.", minimum=0, maximum=1
    )
    strength: float = option(
        1.0, "Fraction of the schedule for the large picture.", minimum=0.05, maximum=1
    )
    denoiser: str = option("hidiffusion", "What draws at full size.", words=DENOISERS)
    t1_ratio: float | None = option(
        None, "HiDiffusion's t1_ratio where it draws; null is published.", minimum=0, maximum=1
    )
    t2_ratio: float | None = option(
        None, "HiDiffusion's t2_ratio where it draws; null is published.", minimum=0, maximum=1
    )
    attention_weight: float = option(
        0.0, "Share of native attention maps in the deepest up block.", minimum=0, maximum=1
    )


def plan(pipe: Any, call: Call, config: GuidedConfig) -> list[Pass]:
    """Return the passes of one generation."""
    native = native_pixels(pipe, config.native_size)
    small = whole(pipe, call, *native_like(call.width, call.height, native), native=native)
    size = (call.width, call.height)
    if config.strength == 1:
        large = whole(pipe, call, *size, draws=config.denoiser, native=native)
    else:
        schedule = schedule_of(pipe, call)
        steps = max(1, round(config.strength * schedule.steps))
        large = tail(pipe, schedule, *size, steps, draws=late(config.denoiser), native=native)
    return [small, replace(large, pooled_calls=large.calls if config.attention_weight else 0)]


def check(pipe: Any, call: Call, config: GuidedConfig) -> None:
    """Say what else would fail later."""
    require_denoiser(pipe, config)
    require_x0(pipe, call)
    repaints = config.strength < 1 and "mask_image" in call.arguments
    if config.strength < 1:
        require_image_to_image(pipe, call)
    if config.space == "pixels" or repaints:
        require_autoencoder(pipe)


def draw(generation: Generation, config: GuidedConfig, before: Tensor | None) -> Any:
    """Run one pass: the native picture, or the large one held to what that left."""
    if before is None:
        return draw_native(generation, config)
    target, share = generation.now, config.attention_weight
    large = enlarged(generation, config.space, before)
    weight = Fade(config.band_weight, max(config.band_end, 1e-6), config.band_fade)
    guide = low_band(generation, config.splitter, before, large, weight)
    generator = generation.call.generator(2)
    enter = (
        lambda pipe: denoiser(pipe, target.draws, config.hidiffusion()),
        lambda pipe: modulated_attention(pipe, before, generator, share),
        lambda pipe: adjusted_x0(pipe.scheduler, guide),
    )
    if config.strength == 1:
        return generation.draw(*enter)
    return generation.refine(large, *enter)


METHODS = (
    Method(
        name="hidiffusion-guided",
        summary="HiDiffusion with its low band held to a native picture",
        config_type=GuidedConfig,
        plan=plan,
        draw=draw,
        check=check,
        min_scale=BEYOND_NATIVE,
    ),
)
