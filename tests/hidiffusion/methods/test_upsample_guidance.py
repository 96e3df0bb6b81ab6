"""Upsample Guidance is the paper's, in the space of the noise and in that of x0."""

import math
from typing import Any

import diffusers
import pytest
import torch
from torch.nn import functional

from hidiffusion import InvalidConfigError
from hidiffusion.methods import registry
from hidiffusion.methods.noise import Noise
from hidiffusion.methods.upsample_guidance import (
    UpsampleGuidanceConfig,
    shifted_noise,
    shifted_timestep,
    upsample_guided,
)
from tests.hidiffusion.pipelines.pipeline_cells import CELLS
from tests.hidiffusion.pipelines.pipeline_kinds import NATIVE, Cell
from tests.hidiffusion.tiny import models as tiny_models

#: diffusers hands tensors to numpy 2 in ways that numpy deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

#: Timestep to timestep, for Stable Diffusion's schedule, by how many times smaller the state is.
TIME_SHIFTS = {
    2: {
        999: 874,
        900: 754,
        800: 631,
        700: 509,
        600: 394,
        500: 292,
        400: 204,
        300: 132,
        200: 75,
        100: 31,
    },
    3: {999: 789, 800: 515, 600: 275, 500: 186},
    4: {999: 723, 800: 428, 600: 200},
}


class Calls:
    """Records the width and the timestep of every U-Net call."""

    def __init__(self, pipe: Any) -> None:
        self.widths: list[int] = []
        self.timesteps: list[float] = []
        pipe.unet.register_forward_pre_hook(self._record, with_kwargs=True)

    def _record(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sample, timestep = (*args, kwargs.get("timestep"))[:2]
        self.widths.append(sample.shape[-1])
        self.timesteps.append(float(timestep))


def _stable_diffusion_schedule() -> Any:
    return diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    )


def _noise(scheduler: Any, timestep: int) -> Noise:
    kept = float(scheduler.alphas_cumprod[timestep])
    return Noise(math.sqrt(kept), math.sqrt(1 - kept))


@pytest.mark.parametrize("scale", TIME_SHIFTS)
def test_time_shifts_are_the_tabulated_ones(scale: int) -> None:
    scheduler = _stable_diffusion_schedule()
    for timestep, shifted in TIME_SHIFTS[scale].items():
        low = shifted_noise(_noise(scheduler, timestep), 1 / scale)
        assert math.hypot(*low) == pytest.approx(1)
        assert shifted_timestep(scheduler.alphas_cumprod, low) == shifted


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_it_is_the_papers_formula_in_the_space_of_the_noise(kind: str) -> None:
    theta, m = 1.2, 2
    pipe = tiny_models.sd_pipeline()
    pipe.unet.double()
    pipe.scheduler.register_to_config(prediction_type=kind)
    pipe.scheduler.set_timesteps(10)
    inputs = tiny_models.unet_inputs(pipe.unet, 2 * NATIVE, 2 * NATIVE)
    inputs = {name: tensor.double() for name, tensor in inputs.items()}
    timestep, sample = pipe.scheduler.timesteps[1], inputs["sample"]
    kept = pipe.scheduler.alphas_cumprod[timestep].double()

    def noise_in(model_output: torch.Tensor, state: torch.Tensor, share: Any) -> torch.Tensor:
        if kind == "epsilon":
            return model_output
        return share**0.5 * model_output + (1 - share) ** 0.5 * state

    with torch.no_grad():
        noise = noise_in(pipe.unet(timestep=timestep, **inputs).sample, sample, kept)
        power = kept + (1 - kept) / m**2
        low_sample = functional.avg_pool2d(sample, m) / power**0.5
        low_kept = kept / power
        tau = nearest_timestep(pipe.scheduler, low_kept)
        low_inputs = inputs | {"sample": low_sample}
        low_output = pipe.unet(timestep=torch.tensor(tau), **low_inputs).sample
        low_noise = noise_in(low_output, low_sample, low_kept)
        change = low_noise / m - functional.avg_pool2d(noise, m)
        expected = noise + theta * functional.interpolate(change, scale_factor=m, mode="nearest")
        with upsample_guided(pipe, UpsampleGuidanceConfig(theta=theta, eta=1)):
            output = pipe.unet(timestep=timestep, **inputs).sample
    assert (noise_in(output, sample, kept) - expected).abs().max() < 1e-6


def nearest_timestep(scheduler: Any, kept: torch.Tensor) -> int:
    """Find the timestep with the nearest log signal-to-noise ratio by looking at all."""
    table = scheduler.alphas_cumprod.double()
    return int((torch.logit(table) - torch.logit(kept)).abs().argmin())


def test_guidance_acts_in_the_noisy_part_and_pools_to_native_area() -> None:
    pipe = tiny_models.sd_pipeline()
    calls = Calls(pipe)
    row = registry.get("upsample-guidance")
    with row.patched(pipe, eta=0.5):
        tiny_models.generate(pipe, 2 * NATIVE, 3 * NATIVE, num_inference_steps=4)
    # 751 and 501 are in the first half of the schedule, 251 and 1 are not.
    small = round(3 * NATIVE / math.sqrt(6))
    assert calls.widths == [24, small, 24, small, 24, 24]
    assert calls.timesteps[::2][:2] == [751, 501]


@pytest.mark.parametrize(
    "name", ["EulerDiscreteScheduler", "HeunDiscreteScheduler", "DPMSolverMultistepScheduler"]
)
def test_schedulers_agree_on_the_first_guided_prediction(name: str) -> None:
    """However a scheduler keeps its latents, the model and its pooled self see the same."""

    def first(scheduler: Any, timestep: Any) -> torch.Tensor:
        pipe = tiny_models.sd_pipeline()
        pipe.scheduler = scheduler
        inputs = tiny_models.unet_inputs(pipe.unet, 2 * NATIVE, 2 * NATIVE)
        with torch.no_grad(), upsample_guided(pipe, UpsampleGuidanceConfig()):
            return pipe.unet(timestep=timestep, **inputs).sample

    plain = _stable_diffusion_schedule()
    other = getattr(diffusers, name).from_config(plain.config, timestep_spacing="leading")
    plain.set_timesteps(5)
    other.set_timesteps(5)
    timestep = other.timesteps[0]
    expected = first(plain, timestep.long())
    torch.testing.assert_close(first(other, timestep), expected, atol=1e-4, rtol=1e-3)


_KINDS = ("ControlNet", "T2I-Adapter", "Inpainting, inpainting model", "Instruct-Pix2Pix", "PAG")


@pytest.mark.parametrize(
    "cell",
    [cell for cell in CELLS if cell.kind in _KINDS and cell.family != "SD 2.1"],
    ids=str,
)
def test_every_kind_of_pipeline_is_guided(cell: Cell) -> None:
    pipe = cell.build()
    direct = cell.call(pipe)
    with registry.get("upsample-guidance").patched(pipe):
        guided = cell.call(pipe)
    assert torch.isfinite(guided).all()
    assert not torch.equal(guided, direct)
    assert torch.equal(cell.call(pipe), direct)


def test_hidiffusion_can_draw_at_full_size() -> None:
    pipe = tiny_models.sd_pipeline()
    row = registry.get("upsample-guidance")
    with row.patched(pipe, seed=1):
        direct = tiny_models.generate(pipe, 2 * NATIVE, 2 * NATIVE)
    with row.patched(pipe, seed=1, denoiser="hidiffusion"):
        assert not torch.equal(tiny_models.generate(pipe, 2 * NATIVE, 2 * NATIVE), direct)


def test_a_scheduler_of_another_kind_of_model_is_named() -> None:
    pipe = tiny_models.sd_pipeline()
    pipe.scheduler = diffusers.EDMEulerScheduler()
    with (
        pytest.raises(InvalidConfigError, match="EDMEulerScheduler, without a table"),
        registry.get("upsample-guidance").patched(pipe),
    ):
        pass
