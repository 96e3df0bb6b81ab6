"""HiDiffusion with its low band held to a picture of native size.

HiDiffusion alone draws fast, and loses the global structure from about four native sides on. A
picture of native size has that structure. FAM diffusion (arXiv 2411.18552, CVPR 2025) holds the low
frequencies of the large picture to it in the Fourier domain; here this is done to the predicted x0,
with HiDiffusion as the model that draws. Its modulation of attention is an option.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hidiffusion.knobs import check, knob
from hidiffusion.methods.bands import SPLITTERS, splitter_of
from hidiffusion.methods.codec import ready
from hidiffusion.methods.denoisers import DENOISERS, denoiser, late
from hidiffusion.methods.modulation import modulated_attention
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
from hidiffusion.methods.session import Session
from hidiffusion.methods.steps import LowBandGuide, Trajectory, adjusted_x0
from hidiffusion.methods.weights import Fade

#: The least enlargement for which a native picture has less to say than the large one.
MIN_SCALE = 1.25


@dataclass(frozen=True, kw_only=True)
class GuidedConfig:
    """Settings of HiDiffusion under low-band guidance.

    Attributes:
        seed: the request's seed or seeds, for the denoiser.
        splitter: what the low band is; it ends at the highest frequency of the native picture.
        reference: the finished native picture, or what was predicted of it at the same time.
        space: whether the native result is enlarged as a picture or as latents.
        band_weight: how far the low band is moved to the reference's.
        band_end: fraction of the steps after which it is free. Freed early, the bundled model goes
            back to what it draws without guidance.
        band_fade: share of the weight that is gone at that point.
        strength: fraction of the schedule that the large picture is drawn with. 1 starts from
            noise, less from the enlarged native result with noise added.
        denoiser: what draws at full size.
        t1_ratio: `HiDiffusionConfig.t1_ratio` of that denoiser; None is published.
        t2_ratio: `HiDiffusionConfig.t2_ratio` of it; None is published.
        attention_weight: share of the attention maps of native size in those of the first up block
            with attention. The model is asked at native size in each step of the large picture,
            unless it is 0.
    """

    seed: int | tuple[int, ...] | None = None
    splitter: str = knob("butterworth", "What the low band is.", words=SPLITTERS)
    reference: str = knob(
        "picture",
        "The finished native picture, or its trajectory.",
        words=("picture", "trajectory"),
    )
    space: str = knob("pixels", "Where the native result is enlarged.", words=("pixels", "latents"))
    band_weight: float = knob(
        1.0, "How far the low band moves to the reference's.", minimum=0, maximum=2
    )
    band_end: float = knob(
        1.0, "Fraction of the steps with the low band held.", minimum=0, maximum=1
    )
    band_fade: float = knob(
        0.0, "Share of the weight that is gone at that point.", minimum=0, maximum=1
    )
    strength: float = knob(
        1.0, "Fraction of the schedule for the large picture.", minimum=0.05, maximum=1
    )
    denoiser: str = knob("hidiffusion", "What draws at full size.", words=DENOISERS)
    t1_ratio: float | None = knob(
        None, "HiDiffusion's t1_ratio where it draws; null is published.", minimum=0, maximum=1
    )
    t2_ratio: float | None = knob(
        None, "HiDiffusion's t2_ratio where it draws; null is published.", minimum=0, maximum=1
    )
    attention_weight: float = knob(
        0.0, "Share of native attention maps in the deepest up block.", minimum=0, maximum=1
    )

    def __post_init__(self) -> None:
        check(self)


def plan(pipe: Any, order: Order, config: GuidedConfig) -> list[Pass]:
    """Return the passes of one generation.

    Raises:
        InvalidConfigError: the picture is too small for the method.
    """
    native = native_pixels(pipe)
    require_scale("hidiffusion-guided", order, native, MIN_SCALE)
    small = whole(pipe, order, *native_like(order.width, order.height, native))
    size = (order.width, order.height)
    if config.strength == 1:
        large = whole(pipe, order, *size, draws=config.denoiser)
    else:
        steps = max(1, round(config.strength * order.num_inference_steps))
        large = tail(pipe, order, *size, steps, draws=late(config.denoiser))
    return [small, replace(large, pooled_calls=large.calls if config.attention_weight else 0)]


def generate(pipe: Any, order: Order, config: GuidedConfig) -> Any:
    """Draw a picture.

    Args:
        pipe: a diffusers pipeline; with `strength` below 1 one that starts from a picture, or has
            a sibling that does.
        order: what is asked for.
        config: the settings.

    Returns:
        The output of the second pass's pipeline.

    Raises:
        InvalidConfigError: the picture is too small for the method.
        UnsupportedModelError: HiDiffusion does not know the model.
        UnsupportedPipelineError: `strength` is below 1, and the pipeline cannot start from a
            picture.
    """
    session = Session(pipe, order, plan(pipe, order, config))
    codec = session.codec
    with torch.no_grad(), ready(pipe.vae):
        target = session.passes[1]

        def enlarge(latents: Tensor) -> Tensor:
            if config.space == "latents":
                return upsampled(latents, *latent_size(pipe, target))
            picture = upsampled(codec.picture(latents), target.height, target.width)
            return codec.latents(picture).to(latents)

        path = Trajectory(enlarge)
        follows = config.reference == "trajectory"
        if follows:
            session.forgo_resuming()
        recorder = adjusted_x0(pipe.scheduler, path.record) if follows else nullcontext()
        native = session.leaving(lambda: session.draw(recorder, output_type="latent").images)
        large = enlarge(native)
        splitter = splitter_of(config.splitter, _size(large), _size(native))
        weight = Fade(config.band_weight, max(config.band_end, 1e-6), config.band_fade)
        ratios = {"t1_ratio": config.t1_ratio, "t2_ratio": config.t2_ratio}
        guide = LowBandGuide(path.at if follows else large, splitter, weight)
        contexts = (
            denoiser(pipe, target.draws, config.seed, **ratios),
            modulated_attention(pipe, native, order.generator(2), config.attention_weight),
            adjusted_x0(pipe.scheduler, guide, total=target.calls),
        )
        if config.strength == 1:
            return session.draw(*contexts)
        return session.refine(large, *contexts)


def _size(latents: Tensor) -> tuple[int, int]:
    return latents.shape[-2], latents.shape[-1]


def latent_size(pipe: Any, target: Pass) -> tuple[int, int]:
    """Return height and width of a pass in latents."""
    factor = int(pipe.vae_scale_factor)
    return target.height // factor, target.width // factor
