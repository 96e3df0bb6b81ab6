"""Small autoencoders with random weights: the real class and structure, few channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from hidiffusion.decode import DecodedTile


def small_vae(levels: int = 4, **changes: Any) -> AutoencoderKL:
    """Build an AutoencoderKL of scale factor `2 ** (levels - 1)`, the same on each call."""
    settings = {
        "block_out_channels": (8, 8, 16, 16)[-levels:],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
    }
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return AutoencoderKL(**(settings | changes)).eval()


def noise(*shape: int) -> Tensor:
    """Give standard normal numbers, the same on each call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(11))


def assembled(tiles: Iterable[DecodedTile], like: Tensor) -> Tensor:
    """Put tiles together; a pixel that no tile covers, or two, comes out as NaN."""
    picture = torch.zeros(like.shape)
    times = torch.zeros(like.shape)
    for tile in tiles:
        height, width = tile.pixels.shape[2:]
        rows, columns = slice(tile.top, tile.top + height), slice(tile.left, tile.left + width)
        picture[:, :, rows, columns] = tile.pixels
        times[:, :, rows, columns] += 1
    return picture.masked_fill(times != 1, float("nan"))


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Give the largest absolute difference; NaN if either holds NaN."""
    return float((ours.double() - theirs.double()).abs().max())
