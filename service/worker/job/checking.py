"""The operator's own look at each picture, before anybody else gets one.

`HIDIFFUSION_WORKER__CHECKER` names a callable as `module:attribute`, or a class, which is made
once, without arguments, when the pipeline process starts. It is called with a `Picture` and answers
with `Pass`, `Block` or `Replace`. docs/operations/safety.md has an example.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

#: Longer side of `Picture.small`, in pixels: classifiers look at 224 to 448.
SMALL_PIXELS = 512


@dataclass(frozen=True)
class Picture:
    """A finished picture that nobody has seen yet.

    Attributes:
        pixels: `[height, width, 3]`, uint8, sRGB; not to be changed.
        small: the same, shrunk to 512 pixels along its longer side if it is larger.
        prompt: what was asked for.
        negative_prompt: what was not wanted.
        model: name of the model that drew it.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    small: NDArray[np.uint8] = field(repr=False)
    prompt: str
    negative_prompt: str
    model: str


@dataclass(frozen=True)
class Pass:
    """The picture may be seen."""


@dataclass(frozen=True)
class Block:
    """Nobody gets to see it: the generation fails with `CONTENT_FILTERED` and this reason."""

    reason: str


@dataclass(frozen=True)
class Replace:
    """Others get to see this in its place: `[height, width, 3]`, uint8, of the same size."""

    pixels: NDArray[np.uint8] = field(repr=False)
    reason: str


Checker = Callable[[Picture], Pass | Block | Replace]


class ContentFiltered(Exception):
    """The checker blocked the picture."""


class CheckerFailed(Exception):
    """The checker did not come to a verdict, so nobody gets to see the picture."""


class HeldBack:
    """Takes regions of a picture in the place of what would store them.

    Args:
        width: pixels.
        height: pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.pixels = np.zeros((height, width, 3), np.uint8)

    def add(self, left: int, top: int, pixels: NDArray[np.uint8]) -> None:
        """Take in a region, `[height, width, 3]`."""
        height, width, _ = pixels.shape
        self.pixels[top : top + height, left : left + width] = pixels


def load_checker(name: str) -> Checker:
    """Import the checker, and make one where it is a class.

    Raises:
        ValueError: there is no such callable.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the checker {name!r} cannot be imported ({error}); set HIDIFFUSION_WORKER__CHECKER "
            "to module:attribute of a module on PYTHONPATH, or unset it"
        ) from error
    checker: Checker = found() if isinstance(found, type) else found
    if not callable(checker):
        raise ValueError(f"the checker {name!r} is {checker!r}, which cannot be called")
    return checker


def look_at(checker: Checker, picture: Picture) -> Pass | Replace:
    """Ask the checker.

    Raises:
        ContentFiltered: it blocks the picture.
        CheckerFailed: it failed, or gave an answer that is none.
    """
    try:
        verdict = checker(picture)
    except Exception as error:
        raise CheckerFailed(f"the checker failed: {type(error).__name__}: {error}") from error
    match verdict:
        case Pass():
            return verdict
        case Block():
            raise ContentFiltered(verdict.reason)
        case Replace():
            given, wanted = verdict.pixels, picture.pixels
            if (given.shape, given.dtype) != (wanted.shape, wanted.dtype):
                raise CheckerFailed(
                    f"the checker replaced {wanted.dtype} pixels of shape {wanted.shape} by "
                    f"{given.dtype} of shape {given.shape}; both must be the same"
                )
            return verdict
    raise CheckerFailed(f"the checker answered {verdict!r}; it must be Pass, Block or Replace")


def shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`[h, w, 3]`, uint8, made to fit `SMALL_PIXELS`."""
    height, width, _ = pixels.shape
    scale = SMALL_PIXELS / max(height, width)
    if scale >= 1:
        return pixels
    size = [max(1, round(side * scale)) for side in (height, width)]
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    small = functional.interpolate(planes, size, mode="bilinear", antialias=True)
    result: NDArray[np.uint8] = small[0].permute(1, 2, 0).contiguous().numpy()
    return result
