"""Upsample Guidance (Hwang, Park and Jo, arXiv 2404.01709): the model on the pooled state guides.

In each early step the model is also asked about the box means of its input, at native size, where
it knows how to lay a picture out. Pooling keeps the picture and averages noise away, so the pooled
input is one of an earlier-looking, cleaner moment: it is scaled to variance one (power shift) and
given the timestep at which the model expects that much noise (time shift). The low band of the
prediction is then moved to what the model said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hidiffusion.clock import Clock
from hidiffusion.errors import InvalidConfigError
from hidiffusion.methods.bands import BoxBand, x0_low_band
from hidiffusion.methods.generation.call import Call
from hidiffusion.methods.generation.check import require_denoiser, require_x0
from hidiffusion.methods.generation.denoisers import DenoiserConfig, denoiser
from hidiffusion.methods.generation.passes import Pass, native_pixels
from hidiffusion.methods.guidance.inner_calls import UNetCall
from hidiffusion.methods.method import BEYOND_NATIVE, one_pass
from hidiffusion.methods.noise import Noise, clean_prediction, noise_of, prediction_type
from hidiffusion.methods.x0 import NoisyPart, moment_of
from hidiffusion.options import option
from hidiffusion.unet.patch import unpatched_calls
from hidiffusion.unet.schedule import Size, enlargement
from hidiffusion.unet.sites import find_unet


@dataclass(frozen=True, kw_only=True)
class UpsampleGuidanceConfig(DenoiserConfig):
    """Settings of Upsample Guidance; the defaults are the published ones for SD 1.5.

    Attributes:
        theta: weight of the guidance.
        eta: fraction of the schedule, from the noisy end, in which it acts.
        scale: how many times smaller the pooled state is; None brings it to the native area.
    """

    theta: float = option(1.2, "Weight of the guidance.", minimum=0, maximum=4)
    eta: float = option(
        0.6, "Fraction of the schedule, from its noisy end, with guidance.", minimum=0, maximum=1
    )
    scale: float | None = option(
        None, "Side by which the state is pooled; null pools to native area.", minimum=1, maximum=16
    )


def shifted_noise(noise: Noise, gain: float) -> Noise:
    """Return what pooled latents hold, once scaled to variance one: the time and power shift.

    Args:
        noise: what the latents hold.
        gain: standard deviation that pooling leaves of white noise; 1 / m for m x m boxes.
    """
    power = math.hypot(noise.alpha, noise.sigma * gain)
    return Noise(noise.alpha / power, noise.sigma * gain / power)


def shifted_timestep(alphas_cumprod: Tensor, noise: Noise) -> int:
    """Return the training timestep whose signal-to-noise ratio is nearest in its logarithm.

    Args:
        alphas_cumprod: share of the picture in the variance of the latents, by timestep.
        noise: of the pooled latents.
    """
    kept = alphas_cumprod.double().cpu()
    if noise.alpha == 0:  # nothing but noise, as under a zero terminal signal-to-noise ratio
        return int(kept.argmin())
    distances = (torch.log(kept / (1 - kept)) - noise.log_snr).abs()
    return int(distances.argmin())


class PooledModel:
    """Forward hook of a U-Net: asks it about the pooled state, and moves its low band there.

    The model is linear in what guidance does with its outputs, so guiding each branch is the same
    as guiding their mix, and every kind of pipeline is served.

    Args:
        scheduler: gives the noise level of a call; exchangeable through the pipeline.
        config: the settings.
        native_size: side of the training pictures in latents.
    """

    def __init__(self, pipe: Any, config: UpsampleGuidanceConfig, native_size: int) -> None:
        self._pipe = pipe
        self._config = config
        self._native = native_size
        self._weight = NoisyPart(config.theta, config.eta)
        self._clock = Clock()
        self._asking = False

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(
        self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        """Return the guided output in place of `output`."""
        if self._asking:
            return None
        call = UNetCall.of(args, kwargs)
        scheduler, size = self._pipe.scheduler, Size(*call.sample.shape[-2:])
        small = self._pooled_size(size)
        if small == size:
            return None
        tick = self._clock.at(call.timestep, [scheduler.timesteps])
        weight = self._weight(moment_of(tick, scheduler))
        if weight == 0:
            return None
        predicted = output[0]
        guided = self._guide(unet, call, predicted, BoxBand(small), weight)
        if isinstance(output, tuple):
            return (guided, *output[1:])
        return type(output)(sample=guided)

    def _pooled_size(self, size: Size) -> Size:
        scale = self._config.scale or enlargement(size, self._native)
        if scale <= 1:
            return size
        return Size(max(1, round(size.height / scale)), max(1, round(size.width / scale)))

    def _guide(
        self, unet: nn.Module, call: UNetCall, predicted: Tensor, box: BoxBand, weight: float
    ) -> Tensor:
        scheduler = self._pipe.scheduler
        noise = _unit_variance(noise_of(scheduler, call.timestep))
        size = (call.sample.shape[-2], call.sample.shape[-1])
        gain = box.noise_gain(size)
        low_noise = shifted_noise(noise, gain)
        kind = prediction_type(scheduler)
        state = call.sample[:, : predicted.shape[1]]
        low_state = box.down(state) / math.hypot(noise.alpha, noise.sigma * gain)
        low_predicted = self._ask(unet, call, low_state, low_noise)
        wide = torch.promote_types(state.dtype, torch.float32)
        clean = clean_prediction(kind, noise)
        x0 = clean.x0(state.to(wide), predicted.to(wide))
        low_x0 = clean_prediction(kind, low_noise).x0(low_state.to(wide), low_predicted.to(wide))
        change = x0_low_band(x0, low_x0, box, weight) - x0
        return (predicted.to(wide) + clean.output_change(change)).to(predicted.dtype)

    def _ask(self, unet: nn.Module, call: UNetCall, low_state: Tensor, noise: Noise) -> Tensor:
        timestep = shifted_timestep(self._pipe.scheduler.alphas_cumprod, noise)
        self._asking = True
        try:
            with unpatched_calls(unet):
                return call.ask(unet, low_state, torch.as_tensor(timestep, device=low_state.device))
        finally:
            self._asking = False


def _unit_variance(noise: Noise) -> Noise:
    """Models see latents scaled to variance one, however the scheduler keeps them."""
    norm = math.hypot(noise.alpha, noise.sigma)
    return Noise(noise.alpha / norm, noise.sigma / norm)


def _costs(only: Pass, config: UpsampleGuidanceConfig) -> Pass:
    return replace(only, pooled_calls=round(config.eta * only.calls))


def check(pipe: Any, call: Call, config: UpsampleGuidanceConfig) -> None:
    """Say what else would fail later."""
    require_denoiser(pipe, config)
    _require_noise_table(pipe.scheduler)
    require_x0(pipe, call)


def _require_noise_table(scheduler: Any) -> None:
    if not hasattr(scheduler, "alphas_cumprod") or hasattr(scheduler, "precondition_outputs"):
        raise InvalidConfigError(
            f"the scheduler is {type(scheduler).__name__}, without a table of training noise "
            "levels; Upsample Guidance needs one such as DDIMScheduler or EulerDiscreteScheduler"
        )


@contextmanager
def upsample_guided(pipe: Any, config: UpsampleGuidanceConfig) -> Iterator[Any]:
    """Apply Upsample Guidance to a pipeline inside a `with` block.

    Args:
        pipe: a diffusers pipeline with a U-Net.
        config: the settings.

    Yields:
        The pipeline.

    Raises:
        UnsupportedModelError: the pipeline has no U-Net of a known family.
        InvalidConfigError: its scheduler is made for another kind of model.
    """
    unet = find_unet(pipe)
    native = native_pixels(pipe, config.native_size) // int(pipe.vae_scale_factor)
    _require_noise_table(pipe.scheduler)
    with denoiser(pipe, config.denoiser, config.hidiffusion()):
        hook = PooledModel(pipe, config, native)
        handle = unet.register_forward_hook(hook, with_kwargs=True)
        try:
            yield pipe
        finally:
            handle.remove()


METHODS = (
    one_pass(
        upsample_guided,
        draws=lambda config: config.denoiser,
        costs=_costs,
        name="upsample-guidance",
        summary="early steps guided by the model on the pooled state",
        config_type=UpsampleGuidanceConfig,
        check=check,
        min_scale=BEYOND_NATIVE,
    ),
)
