"""Exact tiled encoding: the undivided encode's latents, from a picture that may be large."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from hidiffusion.decode.autoencoder import Traits, encoder_network, latents_per_tile, traits_of
from hidiffusion.decode.norm_statistics import REMEDY, require_finite
from hidiffusion.decode.streaming import DEFAULT_TILE
from hidiffusion.decode.sweep import Progress, Sweep
from hidiffusion.decode.tiles import Grid


@torch.no_grad()
def encode_tiles(
    vae: AutoencoderKL,
    image: Tensor,
    *,
    tile: int = DEFAULT_TILE,
    storage: torch.device | str | None = None,
    progress: Progress | None = None,
) -> DiagonalGaussianDistribution:
    """Encode a picture to the distribution that `vae.encode(image).latent_dist` would be.

    The encoder runs layer by layer, tile by tile, with the same pooled statistics as
    `decode_tiles`. The autoencoder is not changed.

    Args:
        vae: an `AutoencoderKL`, in any dtype. As with `vae.encode`, one whose
            `config.force_upcast` is set must have been cast to float32 first.
        image: `[B, 3, H, W]` on [-1, 1]; it may lie on the CPU, from where only tiles are moved.
        tile: edge of a tile in pixels, a multiple of the autoencoder's scale factor (8).
        storage: device that keeps the feature maps between layers; by default that of `vae`.
        progress: called with (steps done, steps in all) before each internal tile step; an
            exception that it raises cancels the encode and reaches the caller.

    Returns:
        The posterior of the latents, `[B, C, H // 8, W // 8]`, not yet multiplied by the scaling
        factor.

    Raises:
        ValueError: if `image` or `tile` do not fit the autoencoder.
        UnsupportedAutoencoderError: if the autoencoder has a part that cannot be tiled exactly.
        NonFiniteError: if the picture or activations hold NaN or infinity.
    """
    traits = traits_of(vae)
    grid = _grid(image, tile, traits)
    require_finite(image, "the pixels", "the fault lies before encoding")
    keep = None if storage is None else torch.device(storage)
    sweep = Sweep(traits.device, keep, progress)
    tiles = encoder_network(vae).tiles(image.to(traits.dtype), grid, sweep)
    size = image.shape[2] // traits.factor, image.shape[3] // traits.factor
    moments = image.new_empty(
        (image.shape[0], 2 * traits.latent_channels, *size),
        dtype=traits.dtype,
        device=traits.device,
    )
    for region, values in tiles:
        require_finite(values, "the moments", REMEDY)
        rows, columns = region.rows, region.columns
        moments[:, :, rows.start : rows.stop, columns.start : columns.stop] = values
    return DiagonalGaussianDistribution(moments)


def _grid(image: Tensor, tile: int, traits: Traits) -> Grid:
    step, factor = latents_per_tile(tile, traits), traits.factor
    fits = image.ndim == 4 and image.shape[1] == traits.image_channels
    if not fits or min(image.shape[2:]) < factor:
        raise ValueError(
            f"image has shape {tuple(image.shape)!r}; pass [B, {traits.image_channels}, H, W] "
            f"with H and W of at least {factor} pixels"
        )
    height, width = image.shape[2], image.shape[3]
    latent_grid = Grid.regular(height // factor, width // factor, step)
    return latent_grid.enlarged(factor, height, width)
