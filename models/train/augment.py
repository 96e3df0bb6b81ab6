"""Pictures on white, moved and disturbed at random, each in its own way."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Motion:
    """How far pictures may move. Every quantity is drawn evenly, for each picture anew.

    Args:
        smallest: Smallest scale.
        largest: Largest scale.
        shift: Largest shift along each axis, as a share of the picture's side.
        degrees: Largest turn to either side.
        mirror: Whether every second picture is mirrored.
    """

    smallest: float = 1.0
    largest: float = 1.0
    shift: float = 0.0
    degrees: float = 0.0
    mirror: bool = False


def move(pictures: Tensor, motion: Motion, side: int) -> Tensor:
    """Scales, turns, mirrors and shifts pictures; white fills what comes into view.

    Args:
        pictures: Shape (n, 3, h, w), in -1..1.
        motion: How far.
        side: Side of the result in pixels.

    Returns:
        Pictures of shape (n, 3, side, side), in -1..1, on the same device.
    """
    count, device = len(pictures), pictures.device
    scale = _between(motion.smallest, motion.largest, count, device)
    angle = _between(-1, 1, count, device) * math.radians(motion.degrees)
    flip = torch.ones(count, device=device)
    if motion.mirror:
        flip = torch.where(torch.rand(count, device=device) < 0.5, -flip, flip)
    cosine, sine = angle.cos() / scale, angle.sin() / scale
    shift = 2 * motion.shift * _between(-1, 1, 2 * count, device).view(2, count) / scale
    rows = [
        torch.stack([flip * cosine, -flip * sine, shift[0]], dim=1),
        torch.stack([sine, cosine, shift[1]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [count, 3, side, side], align_corners=False)
    ink = F.grid_sample(1 - pictures, grid, padding_mode="zeros", align_corners=False)
    return 1 - ink


def disturb(pictures: Tensor) -> Tensor:
    """Changes colours and sharpness a little, and adds noise.

    Args:
        pictures: Shape (n, 3, h, w), in -1..1.

    Returns:
        Pictures of the same shape.
    """
    count, device = len(pictures), pictures.device
    gain = _between(0.75, 1.25, 3 * count, device).view(count, 3, 1, 1)
    ground = _between(0, 0.12, count, device).view(count, 1, 1, 1)
    coloured = 1 - (1 - pictures) * gain - ground
    soft = F.interpolate(F.avg_pool2d(coloured, 4), coloured.shape[-2:], mode="bilinear")
    share = _between(0, 1, count, device).view(count, 1, 1, 1)
    mixed = coloured + (soft - coloured) * share
    return mixed + 0.05 * torch.randn_like(mixed)


def _between(low: float, high: float, count: int, device: torch.device) -> Tensor:
    return low + (high - low) * torch.rand(count, device=device)
