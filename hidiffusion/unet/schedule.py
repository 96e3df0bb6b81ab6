"""Where a step stands in its run, which mechanisms that makes active, and the map sizes of it.

Pure: numbers in, numbers out. The position is derived from the timestep given to the U-Net and the
table of timesteps of the run, never counted, so a cancelled, resumed or truncated run and a solver
that calls the U-Net twice at one timestep need no special case.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import NamedTuple

from hidiffusion.clock import Position
from hidiffusion.unet.config import ResolvedConfig, Threshold


class Size(NamedTuple):
    """Height and width of a feature map."""

    height: int
    width: int


class Level(NamedTuple):
    """Feature-map sizes of one level of the U-Net: at its entrance, and while pooled."""

    full: Size
    inner: Size


@dataclass(frozen=True)
class Stage:
    """Which mechanisms act on one U-Net call.

    Attributes:
        rad: the family's down-sampler divides by 4 instead of 2.
        pool: the family's block works on a pooled map.
        windows: the levels whose self-attention works in windows.
        control: the residuals of a ControlNet are used.
    """

    rad: bool
    pool: bool
    windows: tuple[int, ...]
    control: bool

    @property
    def shrinks(self) -> bool:
        """Whether the deep maps are smaller than in the direct model."""
        return self.rad or self.pool


#: The model as it is, for pictures no larger than those it was trained on.
DIRECT = Stage(rad=False, pool=False, windows=(), control=True)


def enlargement(size: Size, native_size: int) -> float:
    """Return the side of a square of the same area, in native sides."""
    return math.sqrt(size.height * size.width) / native_size


def stage(
    resolved: ResolvedConfig, size: Size, position: Position, *, controlled: bool = False
) -> Stage:
    """Tell which mechanisms act on a U-Net call.

    RAU-Net shrinks when that brings the deep maps nearer to their size in training, in octaves:
    from sqrt(2) times native on. Windows act on everything larger than native.

    Args:
        resolved: the configuration.
        size: of the latents.
        position: of the call in its run.
        controlled: whether a ControlNet takes part, in a run without an initial image.

    Returns:
        The stage; DIRECT for a picture of native area or less.
    """
    scale = enlargement(size, resolved.native_size)
    if scale <= 1:
        return DIRECT
    further = int(resolved.extra_window_start * position.total)
    rad, pool = False, False
    if scale >= math.sqrt(2):
        rad, pool = _mechanisms(resolved, size, position, controlled)
    return Stage(
        rad=rad and resolved.rad_level is not None,
        pool=pool and resolved.pool_level is not None,
        windows=resolved.window_levels[: None if position.step >= further else 1],
        control=position.step < resolved.control_ratio * position.total,
    )


def _mechanisms(
    resolved: ResolvedConfig, size: Size, position: Position, controlled: bool
) -> tuple[bool, bool]:
    row = threshold(resolved, size)
    first = _end(row.controlled_t1_ratio if controlled else row.t1_ratio, position.total)
    second = int(row.t2_ratio * position.total)
    if resolved.rad_first:
        return position.step < first, position.step < second
    aggressive = 0 if resolved.rad_level is None else int(row.aggressive_ratio * position.total)
    return position.step < max(second, aggressive), aggressive <= position.step < first


def _end(ratio: float, total: int) -> int:
    """The layout is settled in step 0, so a mechanism that acts at all acts there."""
    return max(1, int(ratio * total)) if ratio > 0 else 0


def threshold(resolved: ResolvedConfig, size: Size) -> Threshold:
    """Return the row of the schedule that holds for latents of this size.

    The published points are 2 and 4 times native; each row holds from its scale up to the next,
    the last one beyond, the first one below.
    """
    scales = [row.scale for row in resolved.thresholds]
    scale = min(size) / resolved.native_size
    return resolved.thresholds[max(0, bisect.bisect_right(scales, scale) - 1)]


def halve(size: Size) -> Size:
    """Return the size after a 3x3 convolution of stride 2 and padding 1, or pooling by 2."""
    return Size(-(-size.height // 2), -(-size.width // 2))


def level_sizes(resolved: ResolvedConfig, size: Size, active: Stage) -> tuple[Level, ...]:
    """Return the map sizes of every level, from the top, for latents of this size."""
    levels = []
    for index in range(resolved.num_levels):
        pooled = active.pool and index == resolved.pool_level
        level = Level(size, halve(size) if pooled else size)
        levels.append(level)
        size = halve(level.inner)
        if active.rad and index == resolved.rad_level:
            size = halve(size)
    return tuple(levels)
