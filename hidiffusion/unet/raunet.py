"""RAU-Net (paper, section 3.2): hooks that shrink the deep feature maps and grow them again.

No weight and no attribute of a module is changed. The published down-sampler is the 3x3 convolution
of stride 2 with stride 4, dilation 2 and padding 2: its taps fall on every second pixel only, so it
equals the unchanged convolution on every second pixel of its input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from hidiffusion.unet.plan import CallState
from hidiffusion.unet.schedule import Size


class SparseDownsample:
    """Forward pre-hook of a down-sampler: keep every second pixel while it has to quarter."""

    def __init__(self, state: CallState) -> None:
        self.state = state

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        del module
        if not self.state.required().stage.rad:
            return None
        return args[0][..., ::2, ::2], *args[1:]


class Pool:
    """Forward hook of an attention in a down block: halve its output by averaging."""

    def __init__(self, state: CallState) -> None:
        self.state = state

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], output: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...] | None:
        del module, args
        if not self.state.required().stage.pool:
            return None
        return F.avg_pool2d(output[0], kernel_size=2, ceil_mode=True), *output[1:]


class Unpool:
    """Forward hook of an attention in an up block: bring its output back to the level's size."""

    def __init__(self, state: CallState, level: int) -> None:
        self.state = state
        self.level = level

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], output: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...] | None:
        del module, args
        plan = self.state.required()
        if not plan.stage.pool:
            return None
        return resize(output[0], plan.levels[self.level].full), *output[1:]


class UpsampleTo:
    """Forward pre-hook of an up-sampler: give it the size of the skip connection it will meet."""

    def __init__(self, state: CallState, level: int) -> None:
        self.state = state
        self.level = level

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        del module
        plan = self.state.required()
        if not plan.stage.shrinks:
            return None
        return args[0], tuple(plan.levels[self.level].inner), *args[2:]


def resize(features: torch.Tensor, size: Size) -> torch.Tensor:
    """Resize a feature map [B, C, H, W] by bicubic interpolation; as it is if the size is right."""
    if tuple(features.shape[-2:]) == tuple(size):
        return features
    return F.interpolate(features, size=tuple(size), mode="bicubic", align_corners=False)
