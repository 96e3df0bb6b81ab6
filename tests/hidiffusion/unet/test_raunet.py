"""RAU-Net's parts against their published definitions."""

import pytest
import torch
from diffusers.models.downsampling import Downsample2D
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from hidiffusion import apply_hidiffusion
from hidiffusion.unet.controlnet import control_size
from hidiffusion.unet.raunet import SparseDownsample, resize
from hidiffusion.unet.schedule import Size
from tests.hidiffusion.tiny import models as tiny_models


class _Quartering:
    """A call under way in which the down-sampler quarters."""

    class stage:  # noqa: N801 - stands for an attribute
        rad = True

    def required(self) -> "_Quartering":
        return self


@given(st.integers(1, 21), st.integers(1, 21))
def test_every_second_pixel_is_the_strided_dilated_convolution(height: int, width: int) -> None:
    """Stride 4, dilation 2 and padding 2 with the same weights (authors' code)."""
    down = Downsample2D(3, use_conv=True).double()
    features = torch.randn(1, 3, height, width, dtype=torch.float64)
    expected = conv2d(features, down.conv.weight, down.conv.bias, stride=4, dilation=2, padding=2)
    down.register_forward_pre_hook(SparseDownsample(_Quartering()))
    torch.testing.assert_close(down(features), expected, rtol=0, atol=1e-12)


def test_a_map_of_the_right_size_is_not_touched() -> None:
    features = torch.randn(1, 2, 5, 7)
    assert resize(features, Size(5, 7)) is features


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((256, 256), (128, 128)),
        ((192, 336), (72, 128)),
        ((128, 512), (32, 128)),
        ((1024, 64), (128, 8)),
    ],
)
def test_a_controlnet_runs_at_native_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """The longer side at native, both in multiples of 8 (authors' code)."""
    assert control_size(*size, 128) == expected


@settings(max_examples=15)
@given(st.integers(6, 40), st.integers(6, 40), st.sampled_from([0, 3, 9]))
@pytest.mark.parametrize("config", [tiny_models.SD15, tiny_models.SDXL], ids=["sd", "sdxl"])
def test_any_size_comes_back(config: dict, height: int, width: int, step: int) -> None:
    unet = tiny_models.unet(config)
    scheduler = tiny_models.scheduler()
    scheduler.set_timesteps(10)
    apply_hidiffusion(unet, scheduler=scheduler)
    with torch.no_grad():
        output = unet(
            timestep=scheduler.timesteps[step], **tiny_models.unet_inputs(unet, height, width)
        )
    assert output.sample.shape == (1, 4, height, width)
    assert output.sample.isfinite().all()
