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
        overhang: Largest share of the side by which a picture may leave the frame, so that a small
            one may lie anywhere and a large one is not cut in two.
        centre: Where the middle of the pictures lies, without the shift, right of and below the
            frame's middle, as a share of its side.
    """

    smallest: float = 1.0
    largest: float = 1.0
    shift: float = 0.0
    degrees: float = 0.0
    mirror: bool = False
    overhang: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Staging:
    """What scenes are made of.

    Args:
        motion: How far each picture may be moved.
        most: Largest number of the same noun in a scene; every number is equally likely.
        coloured: Share of scenes whose ground is not white; the caption names its colour.
        shaded: Share of the coloured grounds that darken a little towards the bottom.
        several: Share of scenes that show more than one, if that is allowed; evenly many of each
            number by default.
    """

    motion: Motion
    most: int = 1
    coloured: float = 0.0
    shaded: float = 0.0
    several: float | None = None


@dataclass(frozen=True)
class CloseUps:
    """Parts of nouns at sizes that a larger picture shows, for the steps with little noise.

    With much noise the network decides what stands where; there it sees whole nouns only, so it
    goes on drawing them whole. What a part of a large noun looks like, it learns from these.

    Args:
        motion: How far pictures are enlarged and moved.
        variants: How many of each noun are encoded.
        below: Timestep below which they are shown.
        share: Share of the samples below it that show one.
    """

    motion: Motion
    variants: int
    below: int = 600
    share: float = 0.5


def move(pictures: Tensor, motion: Motion, side: int) -> Tensor:
    """Scales, turns, mirrors and shifts pictures; white fills what comes into view.

    Args:
        pictures: Shape (n, 3, h, w), in -1..1.
        motion: How far.
        side: Side of the result in pixels.

    Returns:
        Pictures of shape (n, 3, side, side), in -1..1, on the same device.
    """
    return 1 - move_layers(1 - pictures, motion, side)


def move_layers(layers: Tensor, motion: Motion, side: int) -> Tensor:
    """Scales, turns, mirrors and shifts layers; nought fills what comes into view.

    Args:
        layers: Shape (n, channels, h, w), such as colours multiplied by alpha, and alpha.
        motion: How far.
        side: Side of the result in pixels.

    Returns:
        Layers of shape (n, channels, side, side) on the same device.
    """
    (count, channels), device = layers.shape[:2], layers.device
    scale = _between(motion.smallest, motion.largest, count, device)
    angle = _between(-1, 1, count, device) * math.radians(motion.degrees)
    flip = torch.ones(count, device=device)
    if motion.mirror:
        flip = torch.where(torch.rand(count, device=device) < 0.5, -flip, flip)
    cosine, sine = angle.cos() / scale, angle.sin() / scale
    room = ((1 - scale) / 2 + motion.overhang).clamp(0, motion.shift)
    places = room * _between(-1, 1, 2 * count, device).view(2, count)
    # The grid says where each pixel comes from, so it runs against the motion.
    x, y = (
        -2 * (place + middle) / scale for place, middle in zip(places, motion.centre, strict=True)
    )
    rows = [
        torch.stack([flip * cosine, -flip * sine, flip * x], dim=1),
        torch.stack([sine, cosine, y], dim=1),
    ]
    grid = F.affine_grid(
        torch.stack(rows, dim=1), [count, channels, side, side], align_corners=False
    )
    return F.grid_sample(layers, grid, padding_mode="zeros", align_corners=False)


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
