"""What diffusers and accelerate change about a U-Net keeps working, before and after applying."""

from collections.abc import Callable
from typing import Any

import accelerate
import diffusers
import pytest
import torch
from diffusers import PyramidAttentionBroadcastConfig, apply_pyramid_attention_broadcast
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from packaging.version import Version

from hidiffusion import HiDiffusionError, apply_hidiffusion, remove_hidiffusion
from tests.hidiffusion.tiny import models as tiny_models
from tests.hidiffusion.tiny.models import generate

CPU = torch.device("cpu")


def group_offload(pipe: Any) -> None:
    pipe.unet.enable_group_offload(CPU, CPU, offload_type="leaf_level")


def sequential_offload(pipe: Any) -> None:
    accelerate.cpu_offload(pipe.unet, CPU)


def model_offload(pipe: Any) -> None:
    accelerate.cpu_offload_with_hook(pipe.unet, CPU)


def layerwise_casting(pipe: Any) -> None:
    pipe.unet.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32
    )


#: Name: what is switched on, and how far the result may be from the same without it (None: it
#: changes the result by itself, so only both orders are compared).
FEATURES: dict[str, tuple[Callable[[Any], object], float | None]] = {
    "plain processor": (lambda pipe: pipe.unet.set_attn_processor(AttnProcessor()), 1e-4),
    "fused processor": (lambda pipe: pipe.unet.set_attn_processor(AttnProcessor2_0()), 0),
    "attention slicing": (lambda pipe: pipe.enable_attention_slicing(1), 1e-4),
    "fused projections": (lambda pipe: pipe.fuse_qkv_projections(vae=False), 1e-4),
    "channels last": (lambda pipe: pipe.unet.to(memory_format=torch.channels_last), 1e-4),
    "FreeU": (lambda pipe: pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6), None),
    "VAE tiling": (lambda pipe: pipe.vae.enable_tiling(), 0),
    "to a dtype and back": (lambda pipe: pipe.to(torch.float64).to(torch.float32), 0),
    "model offload": (model_offload, 0),
    "sequential offload": (sequential_offload, 0),
    "group offload": (group_offload, 0),
    "layerwise casting": (layerwise_casting, None),
}


if Version(diffusers.__version__) < Version("0.37"):
    del FEATURES["group offload"]  # it asks for an accelerator there


def picture(pipe: Any) -> torch.Tensor:
    return generate(pipe, 16, 16, num_inference_steps=3)


@pytest.fixture(scope="module")
def plain() -> torch.Tensor:
    """The patched pipeline without any feature."""
    return picture(apply_hidiffusion(tiny_models.sd_pipeline()))


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_works_in_both_orders_and_stays(name: str, plain: torch.Tensor) -> None:
    enable, tolerance = FEATURES[name]
    before, after = tiny_models.sd_pipeline(), tiny_models.sd_pipeline()
    enable(before)
    direct = picture(before)
    apply_hidiffusion(before)
    apply_hidiffusion(after)
    enable(after)
    first, second = picture(before), picture(after)
    assert torch.equal(first, second)
    if tolerance is not None:
        torch.testing.assert_close(first, plain, rtol=tolerance, atol=tolerance)
    else:
        assert not torch.equal(first, plain)
    remove_hidiffusion(after)
    assert torch.equal(picture(after), direct)


def test_kept_outputs_of_self_attention_are_refused_where_windows_act() -> None:
    pipe = tiny_models.sd_pipeline()
    keep = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 1001),
        current_timestep_callback=lambda: 500,
    )
    apply_pyramid_attention_broadcast(pipe.unet, keep)
    apply_hidiffusion(pipe, raunet=False)
    with pytest.raises(HiDiffusionError, match="disable it"):
        picture(pipe)
    apply_hidiffusion(pipe, raunet=False, window_attention=False)
    assert picture(pipe).isfinite().all()
