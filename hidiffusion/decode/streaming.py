"""Exact tiled decoding: the undivided decode's picture, finished region after finished region.

Every resnet of the decoder normalises with the mean and variance of the *whole* picture, so no
pixel is final before all pixels have come to the last norm. The decoder is therefore run layer by
layer, each layer tile by tile with the halo its convolution needs, while the statistics of the
next norm are pooled exactly. Behind the last norm, regions stream out one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from hidiffusion.decode.autoencoder import decoder_network, latents_per_tile, traits_of
from hidiffusion.decode.network import Network
from hidiffusion.decode.norm_statistics import REMEDY, require_finite
from hidiffusion.decode.sweep import Progress, Sweep
from hidiffusion.decode.tiles import Grid, Region, Wanted

#: Pixels along a tile's edge: the size of the tiles that are stored and shown.
DEFAULT_TILE = 512


@dataclass(frozen=True)
class DecodedTile:
    """A finished region of the picture.

    Attributes:
        top: row of its upper edge in the picture, in pixels.
        left: column of its left edge in the picture, in pixels.
        pixels: `[B, 3, h, w]`, float32, on [-1, 1] up to the decoder's own overshoot.
    """

    top: int
    left: int
    pixels: Tensor


def decode_tiles(
    vae: AutoencoderKL,
    latents: Tensor,
    *,
    tile: int = DEFAULT_TILE,
    storage: torch.device | str | None = None,
    progress: Progress | None = None,
    wanted: Callable[[int, int], bool] = lambda _top, _left: True,
) -> Generator[DecodedTile, None, None]:
    """Decode latents into regions of the picture that `vae.decode(latents).sample` would be.

    Regions come row by row from the upper left, at multiples of `tile`, and cover the picture
    once. The autoencoder is not changed, so the generator may be closed or dropped at any time.

    Args:
        vae: an `AutoencoderKL`, in any dtype. As with `vae.decode`, one whose
            `config.force_upcast` is set must have been cast to float32 first.
        latents: `[B, C, h, w]`, already divided by the scaling factor, as `vae.decode` takes
            them; moved to the device and dtype of `vae`.
        tile: edge of a region in pixels, a multiple of the autoencoder's scale factor (8).
        storage: device that keeps the feature maps between layers, such as "cpu" to leave only
            tiles on the GPU; by default the device of `vae`.
        progress: called with (steps done, steps in all) before each internal tile step; an
            exception that it raises cancels the decode and reaches the caller.
        wanted: says whether to decode the region at (top, left); of those that are not, the layers
            behind the last norm are left out, about half of the work. A picture of a single region
            is always decoded.

    Yields:
        The regions that are wanted, in order.

    Raises:
        ValueError: if `latents` or `tile` do not fit the autoencoder.
        UnsupportedAutoencoderError: if the autoencoder has a part that cannot be tiled exactly.
        NonFiniteError: if latents or activations hold NaN or infinity.

    Example:
        >>> for region in decode_tiles(pipe.vae, latents / pipe.vae.config.scaling_factor):
        ...     save(region.top, region.left, region.pixels)
    """
    traits = traits_of(vae)
    grid_step = latents_per_tile(tile, traits)
    if latents.ndim != 4 or latents.shape[1] != traits.latent_channels:
        raise ValueError(
            f"latents have shape {tuple(latents.shape)!r}; "
            f"pass [B, {traits.latent_channels}, h, w] as for vae.decode"
        )
    require_finite(latents, "the latents", "the fault lies before decoding")
    source = latents.to(traits.device, traits.dtype)
    grid = Grid.regular(source.shape[2], source.shape[3], grid_step)
    keep = None if storage is None else torch.device(storage)
    sweep = Sweep(traits.device, keep, progress)

    def is_wanted(region: Region) -> bool:
        return wanted(region.rows.start, region.columns.start)

    return _stream(decoder_network(vae), source, grid, sweep, is_wanted)


@torch.no_grad()
def _stream(
    network: Network, source: Tensor, grid: Grid, sweep: Sweep, wanted: Wanted
) -> Generator[DecodedTile]:
    for region, values in network.tiles(source, grid, sweep, wanted):
        require_finite(values, "the pixels", REMEDY)
        pixels = values.to(torch.float32).contiguous()
        yield DecodedTile(region.rows.start, region.columns.start, pixels)
