"""A stage of DiffuseHigh is the one of its equations."""

from typing import Any

import pytest
import pywt
import torch
from diffusers import EulerDiscreteScheduler
from torch.nn import functional

from hidiffusion import InvalidConfigError
from hidiffusion.errors import UnsupportedPipelineError
from hidiffusion.methods import registry
from hidiffusion.methods.diffuse_high import DiffuseHighConfig, pass_sizes, unsharp
from tests.hidiffusion.pipelines.pipeline_cells import CELLS
from tests.hidiffusion.pipelines.pipeline_kinds import Cell, picture
from tests.hidiffusion.tiny import models as tiny_models

#: diffusers hands tensors to numpy 2 in ways that numpy deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = {"width": 128, "height": 128}
#: 6 of 10 steps, and the low band held in the first 4 of these.
STAGE = {"noising_steps": 30, "band_steps": 20, "num_stages": 1}
CALL = {"prompt": "abc", "num_inference_steps": 10, "guidance_scale": 5.0, "output_type": "latent"}


def _euler_pipeline() -> Any:
    pipe = tiny_models.sd_pipeline()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    return pipe


def _low_band_of(image: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Give `image` the LL band of `other`."""
    _, high = pywt.dwt2(image.numpy(), "db4", "symmetric")
    low, _ = pywt.dwt2(other.numpy(), "db4", "symmetric")
    return torch.from_numpy(pywt.idwt2((low, high), "db4", "symmetric"))


@torch.no_grad()
def _stage(pipe: Any, base: torch.Tensor, seed: int) -> torch.Tensor:
    """Run a stage by the published equations, with the undivided autoencoder."""
    vae, scheduler = pipe.vae, pipe.scheduler

    def encode(image: torch.Tensor) -> torch.Tensor:
        return vae.encode(2 * image - 1).latent_dist.mode() * vae.config.scaling_factor

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return (vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)

    larger = functional.interpolate(base, (128, 128), mode="bicubic", align_corners=False)
    reference = unsharp(larger, 1.0, 1.0)
    scheduler.set_timesteps(CALL["num_inference_steps"])
    timesteps, sigmas = scheduler.timesteps[-6:], scheduler.sigmas[-7:]
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed))
    latents = encode(reference) + sigmas[0] * noise
    prompts = torch.cat(pipe.encode_prompt("abc", "cpu", 1, True)[::-1])
    for step, timestep in enumerate(timesteps):
        scaled = latents / (sigmas[step] ** 2 + 1) ** 0.5
        both = pipe.unet(torch.cat([scaled] * 2), timestep, encoder_hidden_states=prompts).sample
        without, towards = both.chunk(2)
        x0 = latents - sigmas[step] * (without + 10.0 * (towards - without))
        if step < 4:
            x0 = encode(_low_band_of(decode(x0), reference))
        slope = (latents - x0) / sigmas[step]
        latents = latents + slope * (sigmas[step + 1] - sigmas[step])
    return latents


def test_a_stage_is_the_published_one() -> None:
    pipe, base = _euler_pipeline(), picture(side=64)
    expected = _stage(pipe, base, seed=7)
    options = STAGE | {"guidance_picture": base}
    row = registry.get("diffuse-high")
    drawn = row.generate(pipe, **SIZE, **CALL, seed=7, options=options).images
    torch.testing.assert_close(drawn, expected, atol=2e-4, rtol=2e-4)


def test_latents_can_be_split_in_place_of_pictures() -> None:
    row, pipe = registry.get("diffuse-high"), _euler_pipeline()
    options = STAGE | {"guidance_picture": picture(side=64)}
    pixels, latents = (
        row.generate(pipe, **SIZE, **CALL, seed=7, options=options | {"space": space}).images
        for space in ("pixels", "latents")
    )
    assert not torch.equal(pixels, latents)


@pytest.mark.parametrize(
    ("scale", "stages", "sizes"),
    [
        (4.0, None, [2048, 3072, 4096]),
        (2.0, 2, [1536, 2048]),
        (2.0, None, [2048]),
        (1.5, None, [1536]),
    ],
)
def test_stages_are_the_published_ones(scale: float, stages: int | None, sizes: list[int]) -> None:
    side = int(1024 * scale)
    assert pass_sizes(side, side, scale, stages) == [(size, size) for size in sizes]


def test_the_published_defaults() -> None:
    config = DiffuseHighConfig()
    assert (config.steps(50), config.steps(25), config.guidance_scale) == (15, 8, None)
    assert (config.band_steps, config.sharpening, config.denoiser) == (5, 1.0, "direct")


def test_sharpening_steepens_edges_and_keeps_flat_parts() -> None:
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 1
    sharp = unsharp(edge, 1.0, 1.0)
    assert sharp[..., 3].max() < 0
    assert sharp[..., 4].min() > 1
    torch.testing.assert_close(sharp[..., :3], edge[..., :3])
    assert unsharp(edge, 0.0, 1.0) is edge


def test_the_autoencoder_is_asked_whether_to_go_on() -> None:
    class Cancelled(Exception):
        pass

    def alive() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        registry.get("diffuse-high").generate(
            _euler_pipeline(), **SIZE, **CALL, seed=7, alive=alive
        )


_KINDS = ("Image to image", "ControlNet", "PAG", "Inpainting, base model")


@pytest.mark.parametrize(
    "cell",
    [cell for cell in CELLS if cell.kind in _KINDS and cell.family != "SD 2.1"],
    ids=str,
)
@pytest.mark.parametrize("name", ["diffuse-high", "hidiffusion-guided", "hidiffusion-refresh"])
def test_kinds_of_pipelines(name: str, cell: Cell) -> None:
    pipe = cell.build()
    call = {**CALL, "num_inference_steps": 4, **cell.arguments}
    drawn = registry.get(name).generate(pipe, width=96, height=96, seed=1, **call).images
    assert drawn.shape == (1, 4, 12, 12)
    assert torch.isfinite(drawn).all()


def test_a_kind_without_a_sibling_is_named() -> None:
    cell = next(cell for cell in CELLS if cell.kind == "T2I-Adapter")
    with pytest.raises(UnsupportedPipelineError, match="no image-to-image sibling of StableDiff"):
        registry.get("diffuse-high").generate(
            cell.build(), **SIZE, **CALL, seed=1, **cell.arguments
        )


def test_an_option_out_of_range_is_named() -> None:
    with pytest.raises(InvalidConfigError, match="space is 'wavelet'; it must be one of pixels"):
        DiffuseHighConfig(space="wavelet")
    with pytest.raises(InvalidConfigError, match=r"num_stages is 1\.5; it must be between 1 and 8"):
        DiffuseHighConfig(num_stages=1.5)
