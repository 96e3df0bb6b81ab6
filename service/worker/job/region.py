"""Finished pixels, which is all that engines and results know of each other."""

from collections.abc import Callable, Container
from dataclasses import dataclass

import torch


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


#: Given the side in pixels of the regions that an engine will make, row by row from the upper left,
#: says which are wanted, by (top, left): an earlier attempt may have stored the others. It is asked
#: once, when the first region is about to be made.
Missing = Callable[[int], Container[tuple[int, int]]]
