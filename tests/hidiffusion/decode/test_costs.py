"""What a tiled decode costs, counted on the shape of the Stable Diffusion and SDXL decoder.

On the meta device: every tensor has its real size, and nothing is computed.
"""

from functools import cache

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from benchmarks.network.allocations import Count
from hidiffusion.decode import decode_tiles, encode_tiles

#: The decoder's widest map at full size: its last up-block receives 256 channels.
WIDEST = 256
FLOAT32 = 4
TILE = 256
#: Bytes of the widest window that a tile is computed from.
WINDOW = WIDEST * (TILE + 2) ** 2 * FLOAT32


@cache
def _vae() -> AutoencoderKL:
    with torch.device("meta"):
        return AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        ).eval()


def _latents(size: int) -> Tensor:
    return torch.empty(1, 4, size // 8, size // 8, device="meta")


@cache
def _decoded(size: int) -> Count:
    vae = _vae()
    with Count() as count:
        for region in decode_tiles(vae, _latents(size), tile=TILE):
            del region
    return count


@cache
def _undivided(size: int) -> Count:
    vae = _vae()
    with torch.no_grad(), Count() as count:
        vae.decode(_latents(size))
    return count


def test_a_decode_takes_at_most_a_twentieth_more_work() -> None:
    assert 1 <= _decoded(1024).flops / _undivided(1024).flops < 1.05


def test_an_encode_takes_at_most_a_twentieth_more_work() -> None:
    vae, image = _vae(), torch.empty(1, 3, 768, 768, device="meta")
    with torch.no_grad(), Count() as undivided:
        vae.encode(image)
    with Count() as ours:
        encode_tiles(vae, image, tile=TILE)
    assert 1 <= ours.flops / undivided.flops < 1.05
    assert ours.peak < 0.6 * undivided.peak


@pytest.mark.parametrize("size", [512, 1024])
def test_working_memory_depends_on_the_tile_alone(size: int) -> None:
    assert 2 * WINDOW < _decoded(size).peak_working < 2.5 * WINDOW


def test_kept_maps_are_256_channels_of_the_picture_and_of_one_strip() -> None:
    """The named remainder: what lies between two layers of the last level."""
    kept = WIDEST * 1024 * (1024 + TILE) * FLOAT32
    assert _decoded(1024).peak < 1.01 * kept + 2.5 * WINDOW
    assert _decoded(1024).peak < 0.5 * _undivided(1024).peak
