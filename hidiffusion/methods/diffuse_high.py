"""DiffuseHigh (Kim, Hwang, Zhang and Park, arXiv 2406.18459, AAAI 2025).

A picture of native size is enlarged stage by stage: upsampled, sharpened, given noise of the last
steps of the schedule and drawn again at the larger size, while the first of these steps are held
to its low wavelet band. The equations and defaults are those of the paper and its code.
"""

from __future__ import annotations

import functools
import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hidiffusion.knobs import check, knob
from hidiffusion.methods.bands import WaveletBand, x0_low_band
from hidiffusion.methods.codec import Codec, ready
from hidiffusion.methods.denoisers import DENOISERS, denoiser, late
from hidiffusion.methods.passes import (
    Order,
    Pass,
    native_like,
    native_pixels,
    require_scale,
    sized,
    tail,
    whole,
)
from hidiffusion.methods.pictures import upsampled
from hidiffusion.methods.session import Session, native_conditioning
from hidiffusion.methods.steps import LowBandGuide, adjusted_x0
from hidiffusion.methods.weights import Fade, Moment, Weight

#: The least enlargement for which the native picture and the last stage differ in kind.
MIN_SCALE = 1.25


@dataclass(frozen=True, kw_only=True)
class DiffuseHighConfig:
    """Settings of DiffuseHigh; the defaults are the published ones.

    Attributes:
        seed: the request's seed or seeds, for the denoiser.
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
        denoiser: what draws the stages.
        guidance_picture: a picture [B, 3, H, W] on [0, 1] to start from in place of the native
            pass.
    """

    seed: int | tuple[int, ...] | None = None
    num_stages: int | None = knob(
        None, "Larger pictures on the way; null is one a native side.", minimum=1, maximum=8
    )
    noising_steps: int = knob(15, "Steps of a stage, as of 50.", minimum=1, maximum=50)
    guidance_scale: float | None = knob(
        None, "Guidance of the stages; null is twice the request's.", minimum=0, maximum=100
    )
    band_steps: int = knob(
        5, "Steps of a stage, of noising_steps, with the low band held.", minimum=0, maximum=50
    )
    band_weight: float = knob(
        1.0, "How far the low band moves to the reference's.", minimum=0, maximum=2
    )
    band_fade: float = knob(
        0.0, "Share of that weight that is gone at the end.", minimum=0, maximum=1
    )
    space: str = knob(
        "pixels", "Where the band is split; latents is faster.", words=("pixels", "latents")
    )
    wavelet_level: int = knob(1, "Repetitions of the wavelet transform.", minimum=1, maximum=5)
    sharpening: float = knob(1.0, "Weight of the unsharp mask.", minimum=0, maximum=4)
    sharpening_sigma: float = knob(
        1.0, "Standard deviation of its blur, pixels.", minimum=0.1, maximum=2
    )
    denoiser: str = knob("direct", "What draws the stages.", words=DENOISERS)
    guidance_picture: Tensor | None = None

    def __post_init__(self) -> None:
        check(self)

    def steps(self, num_inference_steps: int) -> int:
        """Return the steps of a stage under a schedule of this many steps."""
        return max(1, round(self.noising_steps * num_inference_steps / 50))

    @property
    def weight(self) -> Weight:
        """The weight schedule of a stage."""
        return Fade(
            self.band_weight, min(1.0, self.band_steps / self.noising_steps), self.band_fade
        )


def stage_sizes(width: int, height: int, scale: float, stages: int | None) -> list[tuple[int, int]]:
    """Return width and height of every stage, in equal steps from the native size.

    Args:
        width: of the last stage, in pixels.
        height: of the last stage, in pixels.
        scale: side of the last stage in native sides.
        stages: how many; None for steps of at most one native side, as published.
    """
    count = stages or max(1, math.ceil(scale - 1 - 1e-9))
    factors = [(1 + (scale - 1) * stage / count) / scale for stage in range(1, count)]
    return [*(sized(width, height, factor) for factor in factors), (width, height)]


def plan(pipe: Any, order: Order, config: DiffuseHighConfig) -> list[Pass]:
    """Return the passes of one generation.

    Raises:
        InvalidConfigError: the picture is too small for the method.
    """
    native = native_pixels(pipe)
    scale = require_scale("diffuse-high", order, native, MIN_SCALE)
    steps = config.steps(order.num_inference_steps)
    stages = [
        tail(pipe, order, width, height, steps, draws=late(config.denoiser))
        for width, height in stage_sizes(order.width, order.height, scale, config.num_stages)
    ]
    if config.guidance_picture is not None:
        return stages
    return [whole(pipe, order, *native_like(order.width, order.height, native)), *stages]


def generate(pipe: Any, order: Order, config: DiffuseHighConfig) -> Any:
    """Draw a picture.

    Args:
        pipe: a diffusers pipeline that starts from a picture, or has a sibling that does.
        order: what is asked for.
        config: the settings.

    Returns:
        The output of the last stage's pipeline.

    Raises:
        UnsupportedPipelineError: diffusers cannot start from a picture with this pipeline.
        InvalidConfigError: the picture is too small for the method.
    """
    session = Session(pipe, order, plan(pipe, order, config))
    codec = session.codec
    with torch.no_grad(), ready(pipe.vae):
        picture = config.guidance_picture
        if picture is None:
            base = session.leaving(lambda: session.draw(output_type="latent").images)
            picture = codec.picture(base)
        while session.left > 1:
            smaller = functools.partial(_smaller_stage, session, picture, config)
            picture = codec.picture(session.leaving(smaller))
        return _stage(session, picture, config)


def _smaller_stage(session: Session, picture: Tensor, config: DiffuseHighConfig) -> Tensor:
    latents: Tensor = _stage(session, picture, config, output_type="latent").images
    return latents


def _stage(session: Session, picture: Tensor, config: DiffuseHighConfig, **changes: Any) -> Any:
    stage, codec = session.now, session.codec
    larger = upsampled(picture, stage.height, stage.width)
    reference = unsharp(larger, config.sharpening, config.sharpening_sigma)
    latents = codec.latents(reference).to(session.dtype)
    guide: Any = PixelGuide(reference, codec, WaveletBand(config.wavelet_level), config.weight)
    if config.space == "latents":
        guide = LowBandGuide(latents, WaveletBand(config.wavelet_level), config.weight)
    asked = config.guidance_scale
    held = config.band_steps > 0 and config.band_weight > 0
    return session.refine(
        latents,
        denoiser(session.pipe, stage.draws, config.seed),
        adjusted_x0(session.pipe.scheduler, guide, total=stage.calls) if held else nullcontext(),
        guidance_scale=2 * session.guidance_scale if asked is None else asked,
        **native_conditioning(session),
        **changes,
    )


class PixelGuide:
    """Holds the low band of the picture that x0 decodes to: through the autoencoder and back."""

    def __init__(self, reference: Tensor, codec: Codec, band: WaveletBand, weight: Weight) -> None:
        self._band = band.down(reference)
        self._codec = codec
        self._splitter = band
        self._weight = weight

    def __call__(self, x0: Tensor, moment: Moment) -> Tensor:
        weight = self._weight(moment)
        if weight == 0:
            return x0
        picture = self._codec.picture(x0)
        return self._codec.latents(x0_low_band(picture, self._band, self._splitter, weight)).to(x0)


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
