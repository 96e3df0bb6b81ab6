"""Resizing, padding and cropping of pictures `[B, 3, h, w]` on [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resize(pictures: Tensor, height: int, width: int) -> Tensor:
    """Resize bicubically with a = -0.5, low-passed when shrinking, and clip to [-1, 1].

    That is torchvision's resampling of tensors since 0.17. Which version the released model was
    trained with is not known; in enlarging they differ by their a, -0.5 or -0.75.
    """
    resized = F.interpolate(pictures, (height, width), mode="bicubic", antialias=True)
    return resized.clamp(-1, 1)


def pad_to_multiple(pictures: Tensor, multiple: int) -> Tensor:
    """Pad below and on the right to multiples of a number of pixels, by reflection.

    Works for pictures of any size: where the padding is larger than the picture, the reflection is
    reflected again.
    """
    height, width = pictures.shape[-2:]
    rows = _mirror(height, _up(height, multiple), pictures.device)
    columns = _mirror(width, _up(width, multiple), pictures.device)
    return pictures.index_select(-2, rows).index_select(-1, columns)


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _mirror(length: int, wanted: int, device: torch.device) -> Tensor:
    places = torch.arange(wanted, device=device)
    if length == 1:
        return torch.zeros_like(places)
    period = 2 * (length - 1)
    folded = places % period
    return torch.minimum(folded, period - folded)
