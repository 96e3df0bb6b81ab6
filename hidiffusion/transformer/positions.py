"""Rotary positions beyond the training size, as numbers: frequencies and temperatures.

One axis of a rotary embedding turns component j of d / 2 by position * theta^(-2j / d). A picture
of s native sides reaches positions that were never trained, so frequencies are lowered:

* interpolation (Chen et al., arXiv 2306.15595): all of them by s;
* ntk: theta grows by s^(d / (d - 2)), which lowers the lowest by s and leaves the highest;
* yarn (Peng et al., arXiv 2309.00071, section 3.2): by parts. Components that turn often within
  the training size keep their frequency, those that turn less than once are interpolated.

All of it depends on the size alone and not on the time of the step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

#: Turns within the training size between which YaRN goes over, as DyPE (Issachar et al., arXiv
#: 2510.20766) sets them for pictures: from interpolated to NTK, and from NTK to unchanged.
_TO_NTK = (1.25, 0.75)
_TO_OWN = (16.0, 2.0)


class Axis(NamedTuple):
    """One position axis of a rotary embedding.

    Attributes:
        dim: dimensions of a head that it turns.
        theta: base of its frequencies.
        native: tokens along it in training.
    """

    dim: int
    theta: float
    native: int


class Scales(NamedTuple):
    """How many native sides attention spans along an axis; 1 or more.

    Attributes:
        rows: along the height.
        columns: along the width.
    """

    rows: float
    columns: float

    @classmethod
    def of(cls, extent: tuple[int, int], native: int, *, joint: bool) -> Scales:
        """Return the scales of a grid of tokens; both the greater one if `joint`."""
        rows, columns = (max(1.0, side / native) for side in extent)
        return cls(max(rows, columns), max(rows, columns)) if joint else cls(rows, columns)

    @property
    def native(self) -> bool:
        """Whether nothing reaches beyond the training size."""
        return self == (1.0, 1.0)


def frequencies(axis: Axis, scale: float, rule: str) -> Tensor:
    """Return the frequencies of an axis, float64 [dim / 2], in radians a token.

    Args:
        axis: which one.
        scale: native sides along it.
        rule: one of `hidiffusion.transformer.config.RULES`.
    """
    exponent = torch.arange(0, axis.dim, 2, dtype=torch.float64) / axis.dim
    own = torch.pow(axis.theta, -exponent)
    if scale <= 1 or rule == "none":
        return own
    if rule == "interpolation":
        return own / scale
    ntk = torch.pow(axis.theta * scale ** (axis.dim / (axis.dim - 2)), -exponent)
    if rule == "ntk":
        return ntk
    scaled = torch.lerp(own / scale, ntk, _kept(axis, *_TO_NTK))
    return torch.lerp(scaled, own, _kept(axis, *_TO_OWN))


def _kept(axis: Axis, most: float, least: float) -> Tensor:
    """Return 1 for components that turn more than `most` times within the training size.

    It falls to 0 for those that turn less than `least` times.
    """

    def component(turns: float) -> float:
        period = axis.native / (2 * math.pi * turns)
        return axis.dim * math.log(period) / (2 * math.log(axis.theta))

    low = max(0, math.floor(component(most)))
    high = min(axis.dim / 2, math.ceil(component(least)), axis.dim - 1)
    high = high + 0.001 if high == low else high
    places = torch.arange(axis.dim // 2, dtype=torch.float64)
    return 1 - ((places - low) / (high - low)).clamp(0, 1)


def yarn_temperature(scale: float) -> float:
    """Return YaRN's factor of both query and key (arXiv 2309.00071, equation 22)."""
    return 1 + 0.1 * math.log(scale) if scale > 1 else 1.0


def entropy_temperature(keys: int, native_keys: int) -> float:
    """Return the factor of both query and key that keeps the entropy of attention.

    The logits are to grow as sqrt(log keys) (Jin et al., NeurIPS 2023, arXiv 2306.08645), so query
    and key grow by the root of that.
    """
    return (math.log(keys) / math.log(native_keys)) ** 0.25 if keys > native_keys else 1.0
