"""The sites of a U-Net at which the method acts, found by type and structure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from hidiffusion.errors import UnsupportedModelError
from hidiffusion.unet.config import ResolvedConfig
from hidiffusion.unet.families import UNetStructure
from hidiffusion.upstream import (
    BasicTransformerBlock,
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    Downsample2D,
    UNet2DConditionModel,
    UpBlock2D,
    unwrap,
)


class WindowSite(NamedTuple):
    """One windowed self-attention: its level, and whether it lies between pooling and unpooling."""

    attention: nn.Module
    level: int
    inner: bool


class UpsampleSite(NamedTuple):
    """One up-sampler and the level it leads to."""

    upsampler: nn.Module
    level: int


@dataclass(frozen=True)
class Sites:
    """The modules the method hooks.

    Attributes:
        pairs: for each level, the resnets of its down block.
        attends: for each level, whether its down block has cross-attention.
        downsampler: the one that quarters, or None.
        pool: the attention after which the pooling family's down block pools, or None.
        unpool: the attention after which its up block goes back, or None.
        upsamplers: all of them.
        windows: self-attentions with windows, in the order in which the U-Net runs them.
    """

    pairs: tuple[int, ...]
    attends: tuple[bool, ...]
    downsampler: nn.Module | None
    pool: nn.Module | None
    unpool: nn.Module | None
    upsamplers: tuple[UpsampleSite, ...]
    windows: tuple[WindowSite, ...]


def find_unet(model: object) -> Any:
    """Return the U-Net of a pipeline, or the model itself if it is one.

    Raises:
        UnsupportedModelError: there is none.
    """
    unet = model if isinstance(model, nn.Module) else getattr(model, "unet", None)
    inner = unwrap(unet) if isinstance(unet, nn.Module) else None
    if isinstance(inner, UNet2DConditionModel):
        return inner
    found = type(model).__name__ if inner is None or inner is model else type(inner).__name__
    denoiser = type(getattr(model, "transformer", None)).__name__
    detail = f" with a {denoiser}" if denoiser != "NoneType" else ""
    raise UnsupportedModelError(
        f"found {found}{detail}; supported: a UNet2DConditionModel, or a pipeline with one as .unet"
    )


def structure(unet: Any) -> UNetStructure:
    """Read what decides the family of a U-Net.

    Raises:
        UnsupportedModelError: it has blocks of another kind than the Stable Diffusion families.
    """
    kinds = (CrossAttnDownBlock2D, DownBlock2D, CrossAttnUpBlock2D, UpBlock2D)
    for block in (*unet.down_blocks, *unet.up_blocks):
        if not isinstance(block, kinds):
            raise UnsupportedModelError(
                f"the U-Net has a block {type(block).__name__}; supported: "
                + ", ".join(kind.__name__ for kind in kinds)
            )
    return UNetStructure(
        cross_attention=tuple(isinstance(b, CrossAttnDownBlock2D) for b in unet.down_blocks),
        in_channels=unet.config.in_channels,
        native_size=_native_size(unet.config.sample_size),
    )


def _native_size(sample_size: int | tuple[int, int] | None) -> int | None:
    """The side of the square that has the area of the training pictures."""
    if sample_size is None or isinstance(sample_size, int):
        return sample_size
    height, width = sample_size
    return round(math.sqrt(height * width))


def dissect(unet: Any, resolved: ResolvedConfig) -> Sites:
    """Find the places where the method acts.

    Args:
        unet: the U-Net.
        resolved: the configuration, which says at which levels.

    Returns:
        The places.

    Raises:
        UnsupportedModelError: a block lacks the part that the family needs.
    """
    last = resolved.num_levels - 1
    pool, unpool, downsampler = None, None, None
    if resolved.rad_level is not None:
        downsampler = _strided(unet.down_blocks[resolved.rad_level].downsamplers[0])
    if resolved.pool_level is not None:
        pool = unet.down_blocks[resolved.pool_level].attentions[0]
        unpool = unet.up_blocks[last - resolved.pool_level].attentions[-2]
    return Sites(
        pairs=tuple(len(block.resnets) for block in unet.down_blocks),
        attends=tuple(isinstance(block, CrossAttnDownBlock2D) for block in unet.down_blocks),
        downsampler=downsampler,
        pool=pool,
        unpool=unpool,
        upsamplers=tuple(
            UpsampleSite(upsampler, last - 1 - index)
            for index, block in enumerate(unet.up_blocks)
            for upsampler in block.upsamplers or ()
        ),
        windows=tuple(_windows(unet, resolved)),
    )


def _strided(downsampler: nn.Module) -> nn.Module:
    """Every second pixel into a stride-2, padding-1 convolution is the published stride 4."""
    if isinstance(downsampler, Downsample2D) and downsampler.use_conv and downsampler.padding == 1:
        return downsampler
    raise UnsupportedModelError(
        f"the down-sampler is {downsampler}; supported: Downsample2D with a convolution, padding 1"
    )


def _windows(unet: Any, resolved: ResolvedConfig) -> Iterator[WindowSite]:
    last = resolved.num_levels - 1
    for level in resolved.window_levels:
        for index, attention in enumerate(unet.down_blocks[level].attentions):
            yield from _self_attentions(attention, level, inner=index > 0)
    for level in reversed(resolved.window_levels):
        attentions = unet.up_blocks[last - level].attentions
        for index, attention in enumerate(attentions):
            yield from _self_attentions(attention, level, inner=index < len(attentions) - 1)


def _self_attentions(attention: nn.Module, level: int, *, inner: bool) -> Iterator[WindowSite]:
    for block in attention.modules():
        if isinstance(block, BasicTransformerBlock) and not block.only_cross_attention:
            yield WindowSite(block.attn1, level, inner)
