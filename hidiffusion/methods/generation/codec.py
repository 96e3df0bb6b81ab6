"""Between latents and pictures, exactly and in bounded memory, whatever their size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional

from hidiffusion.decode import decode_tiles, encode_tiles, scale, unscale
from hidiffusion.decode.autoencoder import traits_of


class Codec:
    """Decodes to and encodes from pictures on [0, 1].

    Args:
        vae: a diffusers `AutoencoderKL`. One in float16 that would overflow there
            (`config.force_upcast`) works in float32 during each call, and only then.
        alive: called between tiles; an exception that it raises ends the work.
    """

    def __init__(self, vae: Any, alive: Callable[[], None] = lambda: None) -> None:
        self._vae = vae
        self._alive = alive

    def _progress(self, done: int, total: int) -> None:
        del done, total
        self._alive()

    @torch.no_grad()
    def picture(self, latents: Tensor) -> Tensor:
        """Decode latents as a pipeline's steps hold them.

        Returns:
            `[B, 3, H, W]` on [0, 1], clamped, in float32 on the device of the latents.
        """
        factor = traits_of(self._vae).factor
        with _upcast(self._vae) as vae:
            wide = unscale(vae, latents.to(torch.promote_types(latents.dtype, vae.dtype)))
            height, width = wide.shape[-2] * factor, wide.shape[-1] * factor
            picture = torch.empty((wide.shape[0], 3, height, width), device=latents.device)
            for tile in decode_tiles(vae, wide, progress=self._progress):
                rows, columns = tile.pixels.shape[-2:]
                place = (slice(tile.top, tile.top + rows), slice(tile.left, tile.left + columns))
                picture[(..., *place)] = tile.pixels.to(picture) / 2 + 0.5
        return picture.clamp(0, 1)

    @torch.no_grad()
    def latents(self, picture: Tensor) -> Tensor:
        """Encode a picture; values outside [0, 1] are encoded as they are.

        Args:
            picture: `[B, 3, H, W]`.

        Returns:
            The mode of the posterior, scaled as a pipeline's steps hold it.
        """
        with _upcast(self._vae) as vae:
            posterior = encode_tiles(vae, picture * 2 - 1, progress=self._progress)
            return scale(vae, posterior.mode()).to(picture.device)


@contextmanager
def _upcast(vae: Any) -> Iterator[Any]:
    before = vae.dtype
    overflows = before is torch.float16 and vae.config.get("force_upcast", False)
    if overflows:
        vae.to(torch.float32)
    try:
        yield vae
    finally:
        if overflows:
            vae.to(before)


def upsampled(x: Tensor, height: int, width: int) -> Tensor:
    """Enlarge a picture or latents [B, C, h, w] by bicubic interpolation."""
    return functional.interpolate(x, (height, width), mode="bicubic", align_corners=False)


def fitted(picture: Any, width: int, height: int) -> Any:
    """Bring a picture that a caller gave to a pipeline to another size.

    Args:
        picture: a PIL image, a tensor [B, C, h, w] or [C, h, w], or a list of these; anything
            else is returned as it is.
        width: in pixels.
        height: in pixels.
    """
    if isinstance(picture, list):
        return [fitted(each, width, height) for each in picture]
    if isinstance(picture, PIL.Image.Image):
        return picture.resize((width, height), PIL.Image.Resampling.LANCZOS)
    if isinstance(picture, Tensor) and picture.ndim in {3, 4}:
        batch = picture if picture.ndim == 4 else picture[None]
        sized = functional.interpolate(
            batch, (height, width), mode="bilinear", align_corners=False, antialias=True
        )
        return sized if picture.ndim == 4 else sized[0]
    return picture
