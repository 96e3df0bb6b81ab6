"""DiffuseHigh (Kim, Hwang, Zhang and Park, arXiv 2406.18459, AAAI 2025).

A picture of native size is enlarged stage by stage: upsampled, sharpened, given noise of the last
steps of the schedule and drawn again at the larger size, while the first of these steps are held
to its low wavelet band. The equations and defaults are those of the paper and its code.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hidiffusion.methods.bands import WaveletBand
from hidiffusion.methods.generation.call import Call
from hidiffusion.methods.generation.check import require_stages
from hidiffusion.methods.generation.codec import Codec, upsampled
from hidiffusion.methods.generation.denoisers import DenoiserConfig, denoiser, late
from hidiffusion.methods.generation.generation import Generation, native_conditioning
from hidiffusion.methods.generation.passes import (
    Pass,
    native_like,
    native_pixels,
    native_sides,
    schedule_of,
    sized,
    tail,
    whole,
)
from hidiffusion.methods.method import BEYOND_NATIVE, Method
from hidiffusion.methods.x0 import Fade, LowBandGuide, Moment, Weight, adjusted_x0
from hidiffusion.options import option


@dataclass(frozen=True, kw_only=True)
class DiffuseHighConfig(DenoiserConfig):
    """Settings of DiffuseHigh; the defaults are the published ones.

    Attributes:
        num_stages: larger pictures drawn on the way; None takes one for each native side.
        noising_steps: steps of each stage, of 50; other numbers of steps take the same fraction.
        guidance_scale: classifier-free guidance of the stages; None takes twice that of the native
            pass, as published (10 after 5).
        band_steps: steps of each stage, of its `noising_steps`, with the low band held.
        band_weight: how far the low band is moved to the reference's.
        band_fade: share of that weight that is gone at the end of the window.
        space: whether the wavelet splits pictures, as published, or latents, which spares the
            autoencoder in every step.
        wavelet_level: how often the wavelet transform is repeated on its LL band.
        sharpening: weight of the unsharp mask; 0 for none.
        sharpening_sigma: standard deviation of its blur in pixels. The authors draw it between
            0.1 and 2.0; a fixed one lets the seed decide the picture.
        guidance_picture: a picture [B, 3, H, W] on [0, 1] to start from in place of the native
            pass.
    """

    num_stages: int | None = option(
        None, "Larger pictures on the way; null is one a native side.", minimum=1, maximum=8
    )
    noising_steps: int = option(15, "Steps of a stage, as of 50.", minimum=1, maximum=50)
    guidance_scale: float | None = option(
        None, "Guidance of the stages; null is twice the request's.", minimum=0, maximum=100
    )
    band_steps: int = option(
        5, "Steps of a stage, of noising_steps, with the low band held.", minimum=0, maximum=50
    )
    band_weight: float = option(
        1.0, "How far the low band moves to the reference's.", minimum=0, maximum=2
    )
    band_fade: float = option(
        0.0, "Share of that weight that is gone at the end.", minimum=0, maximum=1
    )
    space: str = option(
        "pixels", "Where the band is split; latents is faster.", words=("pixels", "latents")
    )
    wavelet_level: int = option(1, "Repetitions of the wavelet transform.", minimum=1, maximum=5)
    sharpening: float = option(1.0, "Weight of the unsharp mask.", minimum=0, maximum=4)
    sharpening_sigma: float = option(
        1.0, "Standard deviation of its blur, pixels.", minimum=0.1, maximum=2
    )
    guidance_picture: Tensor | None = None

    def steps(self, num_inference_steps: int) -> int:
        """Return the steps of a stage under a schedule of this many steps."""
        return max(1, round(self.noising_steps * num_inference_steps / 50))

    @property
    def weight(self) -> Weight:
        """The weight schedule of a stage."""
        return Fade(
            self.band_weight, min(1.0, self.band_steps / self.noising_steps), self.band_fade
        )


def pass_sizes(width: int, height: int, sides: float, count: int | None) -> list[tuple[int, int]]:
    """Return width and height of every pass above native size, in equal steps from it.

    Args:
        width: of the last pass, in pixels.
        height: of the last pass, in pixels.
        sides: side of the last pass in native sides.
        count: how many; None for steps of at most one native side, as published.
    """
    count = count or max(1, math.ceil(sides - 1 - 1e-9))
    factors = [(1 + (sides - 1) * index / count) / sides for index in range(1, count)]
    return [*(sized(width, height, factor) for factor in factors), (width, height)]


def plan(pipe: Any, call: Call, config: DiffuseHighConfig) -> list[Pass]:
    """Return the passes of one generation."""
    native = native_pixels(pipe, config.native_size)
    sides = native_sides(call, native)
    schedule = schedule_of(pipe, call)
    steps = config.steps(schedule.steps)
    more: dict[str, Any] = {"draws": late(config.denoiser), "native": native}
    stages = [
        tail(pipe, schedule, width, height, steps, **more)
        for width, height in pass_sizes(call.width, call.height, sides, config.num_stages)
    ]
    if config.guidance_picture is not None:
        return stages
    size = native_like(call.width, call.height, native)
    return [whole(pipe, call, *size, native=native), *stages]


def draw(generation: Generation, config: DiffuseHighConfig, before: Tensor | None) -> Any:
    """Run one pass: the native picture, or a stage on what the pass before it left."""
    picture = config.guidance_picture
    if before is not None:
        picture = generation.codec.picture(before)
    if picture is None:
        return generation.draw()
    stage, codec = generation.now, generation.codec
    larger = upsampled(picture, stage.height, stage.width)
    reference = unsharp(larger, config.sharpening, config.sharpening_sigma)
    latents = codec.latents(reference).to(generation.dtype)
    band = WaveletBand(config.wavelet_level)
    guide: LowBandGuide = PixelGuide(reference, codec, band, config.weight)
    if config.space == "latents":
        guide = LowBandGuide(latents, band, config.weight)
    asked = config.guidance_scale
    held = config.band_steps > 0 and config.band_weight > 0
    return generation.refine(
        latents,
        lambda pipe: denoiser(pipe, stage.draws, config.hidiffusion()),
        lambda pipe: adjusted_x0(pipe.scheduler, guide) if held else nullcontext(),
        guidance_scale=2 * generation.guidance_scale if asked is None else asked,
        **native_conditioning(generation),
    )


class PixelGuide(LowBandGuide):
    """Holds the low band of the picture that x0 decodes to: through the autoencoder and back."""

    def __init__(self, reference: Tensor, codec: Codec, band: WaveletBand, weight: Weight) -> None:
        super().__init__(reference, band, weight)
        self._codec = codec

    def __call__(self, x0: Tensor, moment: Moment) -> Tensor:
        if self.weight(moment) == 0:
            return x0
        return self._codec.latents(super().__call__(self._codec.picture(x0), moment)).to(x0)


def unsharp(picture: Tensor, amount: float, sigma: float) -> Tensor:
    """Sharpen: (1 + amount) * picture - amount * blurred, with a 3x3 Gaussian blur.

    Args:
        picture: `[B, C, H, W]`.
        amount: 0 leaves the picture.
        sigma: of the Gaussian, in pixels.
    """
    if amount == 0:
        return picture
    offsets = torch.tensor([-1.0, 0.0, 1.0], device=picture.device, dtype=picture.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = weights / weights.sum()
    kernel = (weights[:, None] * weights[None]).expand(picture.shape[1], 1, 3, 3)
    padded = functional.pad(picture, (1, 1, 1, 1), mode="reflect")
    blurred = functional.conv2d(padded, kernel, groups=picture.shape[1])
    return (1 + amount) * picture - amount * blurred


METHODS = (
    Method(
        name="diffuse-high",
        summary="a native picture, enlarged and drawn again stage by stage under its wavelet band",
        config_type=DiffuseHighConfig,
        plan=plan,
        draw=draw,
        check=require_stages,
        min_scale=BEYOND_NATIVE,
        starts_from_pictures=True,
    ),
)
