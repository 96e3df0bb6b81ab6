"""Where the method differs from the authors' code on purpose; reference/README.md lists it all."""

import pytest
import torch

from hidiffusion import apply_hidiffusion
from tests.hidiffusion.pipelines.pipeline_kinds import Sides
from tests.hidiffusion.tiny import models as tiny_models


def sides(native: int, latents: int, steps: int = 10) -> tuple[int, ...]:
    """Return the mid-block's side in each step of an SD 1.5 U-Net trained at ``native`` latents."""
    pipe = tiny_models.sd_pipeline(tiny_models.unet(native=native))
    apply_hidiffusion(pipe)
    with Sides(pipe.unet) as seen:
        tiny_models.generate(pipe, latents, latents, num_inference_steps=steps, guidance_scale=1)
    return seen.seen


def test_a_larger_native_size_moves_the_thresholds() -> None:
    """Four times native begins where it begins for the model, not at a fixed number of latents."""
    assert sides(native=8, latents=32) == (1,) * 3 + (2,) * 4 + (4,) * 3
    assert sides(native=12, latents=32) == (2,) * 4 + (4,) * 6
    assert sides(native=12, latents=48) == (2,) * 3 + (3,) * 4 + (6,) * 3


@pytest.mark.parametrize("latents", [8, 16])
def test_native_pictures_are_untouched(latents: int) -> None:
    pipe = tiny_models.sd_pipeline(tiny_models.unet(native=16))
    direct = tiny_models.generate(pipe, latents, latents)
    apply_hidiffusion(pipe)
    assert torch.equal(tiny_models.generate(pipe, latents, latents), direct)
