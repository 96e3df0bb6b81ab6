"""Classifier-free guidance, constant or growing towards the clean end."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hidiffusion.errors import InvalidConfigError


def guidance_weight(timestep: float, scale: float, power: float | None = None) -> float:
    """Return w in `noise = uncond + w (cond - uncond)`.

    Args:
        timestep: label n in (0, 1000].
        scale: w; with a power, w at the clean end, at least 1.
        power: None holds w. Else w grows from 1 at pure noise, later the larger the power:
            `1 + (scale - 1) (1 - cos(pi (1 - n / 1000)^power)) / 2` (the power-cosine schedule of
            MDT, arXiv 2303.14389, as in the authors' evaluation script).

    Raises:
        InvalidConfigError: the power is not positive, or the scale with it below 1.
    """
    if power is None:
        return scale
    if not power > 0:
        raise InvalidConfigError(f"guidance_power is {power}; it must be above 0, or None")
    if scale < 1:
        raise InvalidConfigError(
            f"guidance_scale is {scale}; with guidance_power it must be at least 1"
        )
    return 1 + (scale - 1) * (1 - math.cos(math.pi * (1 - timestep / 1000) ** power)) / 2


def guide(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Return the guided noise, of the shape of both."""
    return torch.lerp(unconditional, conditional, weight)
