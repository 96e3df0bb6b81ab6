"""Finished pixels, which is all that engines and results know of each other."""

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Region:
    """A finished region of a picture.

    Attributes:
        top: row of its upper edge in the picture, in pixels.
        left: column of its left edge, in pixels.
        pixels: `[1, 3, h, w]`, on [-1, 1] up to a network's overshoot.
    """

    top: int
    left: int
    pixels: torch.Tensor

    def integers(self, dtype: torch.dtype) -> NDArray[Any]:
        """The pixels as `[h, w, 3]` of an unsigned type, rounded as diffusers rounds."""
        largest = torch.iinfo(dtype).max
        values = ((self.pixels[0] / 2 + 0.5).clamp(0, 1) * largest).round().to(dtype)
        return values.permute(1, 2, 0).contiguous().cpu().numpy()

    def put_into(self, picture: NDArray[Any], dtype: torch.dtype) -> None:
        """Write its integers to its place in a `[height, width, 3]` picture of that type."""
        height, width = self.pixels.shape[2:]
        rows = slice(self.top, self.top + height)
        picture[rows, self.left : self.left + width] = self.integers(dtype)


#: Given the side in pixels of the regions that an engine will make, row by row from the upper left,
#: says which are wanted, by (top, left): an earlier attempt may have stored the others. It is asked
#: once, when the first region is about to be made.
Missing = Callable[[int], Container[tuple[int, int]]]
