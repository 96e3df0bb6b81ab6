"""Previews: the linear map, its fit, its file, and its cost."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from hidiffusion.decode import (
    PreviewFactors,
    fit_preview,
    known_preview,
    latents_to_rgb,
    scale,
    unscale,
)
from hidiffusion.decode.__main__ import main
from tests.hidiffusion.decode.small_vae import largest_difference, noise, small_vae

FACTORS = PreviewFactors(((0.1, 0.2, 0.3), (0.0, -0.5, 0.25)), (0.05, 0.0, -0.1))


def test_each_pixel_is_mapped_by_weights_and_bias_and_clamped() -> None:
    latents = torch.tensor([[1.0, -2.0], [9.0, 9.0]]).T[None, :, None]
    picture = latents_to_rgb(latents.half(), FACTORS)
    assert picture.dtype == torch.float32
    expected = torch.tensor([[0.15, 1.0, -0.3], [0.95, -1.0, 1.0]]).T[None, :, None]
    assert largest_difference(picture, expected) < 1e-6


def test_factors_for_another_latent_space_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4 channels, the factors 2.*fit_preview"):
        latents_to_rgb(noise(1, 4, 2, 2), FACTORS)


class _LinearDecoder(nn.Module):
    """Decodes by a linear map and enlargement, so that the best preview is known."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        mixed = torch.stack(
            (values[:, 0] * 0.3, values[:, 1] - 0.2, values[:, 2] + values[:, 3]), 1
        )
        return functional.interpolate(mixed, scale_factor=8.0)


@pytest.mark.parametrize(
    "scaling",
    [
        {"scaling_factor": 0.5},
        {"scaling_factor": 0.5, "shift_factor": 0.25},
        {"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 3.0, 4.0]},
    ],
)
def test_a_fit_finds_the_map_of_a_linear_decoder(scaling: dict[str, object]) -> None:
    vae = small_vae(use_post_quant_conv=False, **scaling)
    latents = noise(2, 4, 8, 8)
    vae.decoder.forward = _LinearDecoder().forward
    factors = fit_preview(vae, latents)
    shrunk = functional.avg_pool2d(vae.decode(unscale(vae, latents)).sample, 8)
    assert largest_difference(latents_to_rgb(latents, factors), shrunk.clamp(-1, 1)) < 1e-3


def test_scaling_is_what_a_pipeline_does_and_undoes() -> None:
    vae = small_vae(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 3.0, 4.0])
    latents = noise(1, 4, 2, 2)
    column = torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None]
    expected = (latents - column / 10) * vae.config.scaling_factor / column
    assert largest_difference(scale(vae, latents), expected) < 1e-6
    assert largest_difference(unscale(vae, scale(vae, latents)), latents) < 1e-6


def test_too_few_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="4 latent pixels"):
        fit_preview(small_vae(), noise(1, 4, 2, 2))


def test_published_latent_spaces_are_known_by_their_scaling_factor() -> None:
    grey = torch.zeros(1, 4, 1, 1)
    sdxl = known_preview(small_vae(scaling_factor=0.13025))
    assert sdxl is not None
    published = torch.tensor([150.0, 140.0, 130.0])
    assert largest_difference((latents_to_rgb(grey, sdxl).flatten() + 1) * 127.5, published) < 1e-3
    assert known_preview(small_vae(scaling_factor=0.18215)) is not None
    assert known_preview(small_vae(scaling_factor=1.0)) is None


def test_factors_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "preview.json"
    FACTORS.save(path)
    assert PreviewFactors.load(path) == FACTORS
    path.write_text('{"weights": [[1, 2]]}')
    with pytest.raises(ValueError, match=r"preview\.json.*python -m hidiffusion\.decode"):
        PreviewFactors.load(path)


def test_the_command_fits_a_stored_model(tmp_path: Path) -> None:
    small_vae().save_pretrained(tmp_path / "vae")
    picture = tmp_path / "picture.png"
    Image.linear_gradient("L").convert("RGB").save(picture)
    main([str(tmp_path), str(picture)])
    assert len(PreviewFactors.load(tmp_path / "preview.json").weights) == 4


def test_a_preview_costs_next_to_nothing() -> None:
    """Even one 3x3 convolution of a U-Net's first layer, four to 320 channels, dwarfs it."""
    latents = torch.empty(1, 4, 64, 64)
    with FlopCounterMode(display=False) as preview:
        latents_to_rgb(latents, PreviewFactors(FACTORS.weights * 2, FACTORS.bias))
    with FlopCounterMode(display=False) as layer:
        nn.Conv2d(4, 320, 3, padding=1)(latents)
    assert preview.get_total_flops() < 0.01 * layer.get_total_flops()
