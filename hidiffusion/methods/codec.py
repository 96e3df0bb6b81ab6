"""Between latents and pictures, exactly and in bounded memory, whatever their size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hidiffusion.decode import decode_tiles, encode_tiles, scale, unscale
from hidiffusion.decode.autoencoder import awake


class Codec:
    """Decodes to and encodes from pictures on [0, 1].

    Args:
        vae: a diffusers `AutoencoderKL`; `ready` says in which dtype.
        alive: called between tiles; an exception that it raises ends the work.
    """

    def __init__(self, vae: Any, alive: Callable[[], None] = lambda: None) -> None:
        self._vae = vae
        self._alive = alive

    def _progress(self, done: int, total: int) -> None:
        del done, total
        self._alive()

    def picture(self, latents: Tensor) -> Tensor:
        """Decode latents as a pipeline's steps hold them.

        Returns:
            `[B, 3, H, W]` on [0, 1], clamped, in float32 on the device of the latents.
        """
        factor = awake(self._vae).factor
        height, width = latents.shape[-2] * factor, latents.shape[-1] * factor
        picture = torch.empty((latents.shape[0], 3, height, width), device=latents.device)
        wide = latents.to(torch.promote_types(latents.dtype, self._vae.dtype))
        for tile in decode_tiles(self._vae, unscale(self._vae, wide), progress=self._progress):
            rows, columns = tile.pixels.shape[-2:]
            place = (slice(tile.top, tile.top + rows), slice(tile.left, tile.left + columns))
            picture[(..., *place)] = tile.pixels.to(picture) / 2 + 0.5
        return picture.clamp(0, 1)

    def latents(self, picture: Tensor) -> Tensor:
        """Encode a picture; values outside [0, 1] are encoded as they are.

        Args:
            picture: `[B, 3, H, W]`.

        Returns:
            The mode of the posterior, scaled as a pipeline's steps hold it.
        """
        posterior = encode_tiles(self._vae, picture * 2 - 1, progress=self._progress)
        return scale(self._vae, posterior.mode()).to(picture.device)


@contextmanager
def ready(vae: Any) -> Iterator[Any]:
    """Hold the autoencoder in float32 inside a `with` block if float16 would overflow in it."""
    before = vae.dtype
    upcast = before is torch.float16 and vae.config.force_upcast
    if upcast:
        vae.to(torch.float32)
    try:
        yield vae
    finally:
        if upcast:
            vae.to(before)
