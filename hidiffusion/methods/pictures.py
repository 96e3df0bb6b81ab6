"""Bringing pictures and latents to another size."""

from __future__ import annotations

from typing import Any

import PIL.Image
from torch import Tensor
from torch.nn import functional


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
