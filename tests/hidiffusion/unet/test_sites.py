"""The places where the method acts, found in real U-Nets."""

import pytest
import torch
from diffusers import UNet2DModel

from hidiffusion import HiDiffusionConfig, UnsupportedModelError
from hidiffusion.unet.families import resolve
from hidiffusion.unet.sites import Sites, dissect, find_unet, structure
from tests.hidiffusion.tiny import models as tiny_models


def names(config: dict, **options: object) -> tuple[Sites, dict[object, str]]:
    """Dissect a U-Net; return its places and the name of each module."""
    unet = tiny_models.unet(config)
    resolved = resolve(HiDiffusionConfig(**options), structure(unet))
    return dissect(unet, resolved), {module: name for name, module in unet.named_modules()}


def windowed(sites: Sites, name: dict[object, str]) -> list[str]:
    return [name[site.attention].removesuffix(".attn1") for site in sites.windows]


def test_stable_diffusion_has_the_published_places() -> None:
    sites, name = names(tiny_models.SD15)
    assert name[sites.downsampler] == "down_blocks.0.downsamplers.0"
    assert name[sites.pool] == "down_blocks.1.attentions.0"
    assert name[sites.unpool] == "up_blocks.2.attentions.1"
    assert windowed(sites, name) == [
        *(f"down_blocks.0.attentions.{index}.transformer_blocks.0" for index in (0, 1)),
        *(f"up_blocks.3.attentions.{index}.transformer_blocks.0" for index in (0, 1, 2)),
    ]


def test_sdxl_has_the_published_places() -> None:
    sites, name = names(tiny_models.SDXL)
    assert name[sites.downsampler] == "down_blocks.1.downsamplers.0"
    assert name[sites.pool] == "down_blocks.1.attentions.0"
    assert name[sites.unpool] == "up_blocks.1.attentions.1"
    assert windowed(sites, name) == [
        f"{block}.attentions.{index}.transformer_blocks.{layer}"
        for block, count in (("down_blocks.1", 2), ("up_blocks.1", 3))
        for index in range(count)
        for layer in (0, 1)
    ]


def test_each_upsampler_leads_to_the_level_above() -> None:
    sites, name = names(tiny_models.SD15)
    assert [(name[site.upsampler], site.level) for site in sites.upsamplers] == [
        ("up_blocks.0.upsamplers.0", 2),
        ("up_blocks.1.upsamplers.0", 1),
        ("up_blocks.2.upsamplers.0", 0),
    ]


def test_extra_levels_come_after_the_published_one_and_before_it_on_the_way_up() -> None:
    sites, _ = names(tiny_models.SD15, extra_window_levels=1)
    assert [site.level for site in sites.windows] == [0, 0, 1, 1, 1, 1, 1, 0, 0, 0]
    assert [site.inner for site in sites.windows if site.level == 1] == [
        False, True, True, True, False,
    ]  # fmt: skip


def test_the_refiner_keeps_its_sizes() -> None:
    sites, name = names(tiny_models.SDXL_REFINER)
    assert (sites.downsampler, sites.pool, sites.unpool) == (None, None, None)
    assert windowed(sites, name)[0].startswith("down_blocks.1")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_unet_is_found_inside_its_wrapper() -> None:
    unet = tiny_models.unet()
    assert find_unet(torch.compile(unet)) is unet


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (object(), "found object; supported: a UNet2DConditionModel"),
        (torch.nn.Linear(1, 1), "found Linear"),
        (type("Flux", (), {"transformer": torch.nn.Linear(1, 1)})(), "found Flux with a Linear"),
    ],
)
def test_a_model_without_a_unet_is_named(model: object, found: str) -> None:
    with pytest.raises(UnsupportedModelError, match=found):
        find_unet(model)


def test_a_block_of_another_kind_is_named() -> None:
    unet = UNet2DModel(
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
    )
    with pytest.raises(UnsupportedModelError, match="a block AttnDownBlock2D; supported: Cross"):
        structure(unet)
