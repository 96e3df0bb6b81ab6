"""RAU-Net (paper, section 3.2): hooks that shrink the deep feature maps and grow them again.

No weight and no attribute of a module is changed. The published down-sampler is the 3x3 convolution
of stride 2 with stride 4, dilation 2 and padding 2: its taps fall on every second pixel only, so it
equals the unchanged convolution on every second pixel of its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from hidiffusion.unet.plan import CallState, Plan
from hidiffusion.unet.schedule import Size, enlargement
from hidiffusion.upstream import ControlNetOutput

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


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

    def __init__(self, state: CallState) -> None:
        self.state = state

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], output: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...] | None:
        del module, args
        plan, level = self.state.required(), self.state.resolved.pool_level
        if level is None or not plan.stage.pool:
            return None
        return resize(output[0], plan.levels[level].full), *output[1:]


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


class FitResiduals:
    """Forward pre-hook of the U-Net: bring the residuals of side networks to the planned sizes.

    A ControlNet runs at native size and a T2I-Adapter at full size; both add to maps of other
    sizes. A ControlNet is not heard at all after its part of the run.
    """

    def __init__(self, state: CallState, pairs: Sequence[int], attends: Sequence[bool]) -> None:
        self.state = state
        self.pairs = tuple(pairs)
        self.attends = tuple(attends)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments | None:
        del module
        down = kwargs.get("down_block_additional_residuals")
        mid = kwargs.get("mid_block_additional_residual")
        adapter = kwargs.get("down_intrablock_additional_residuals")
        plan = self.state.required()
        changes: dict[str, Any] = {}
        if mid is not None and not plan.stage.control:
            changes["mid_block_additional_residual"] = None
            changes["down_block_additional_residuals"] = None
        elif mid is not None and down is not None:
            changes["mid_block_additional_residual"] = resize(mid, plan.levels[-1].inner)
            changes["down_block_additional_residuals"] = _resize_all(down, self._skips(plan))
        elif down is not None:
            changes["down_block_additional_residuals"] = _resize_all(down, self._outputs(plan))
        if adapter is not None:
            changes["down_intrablock_additional_residuals"] = _resize_all(
                adapter, self._outputs(plan)
            )
        return (args, kwargs | changes) if changes else None

    def _skips(self, plan: Plan) -> list[Size]:
        """Sizes of the skip connections, from the first convolution down."""
        sizes = [plan.levels[0].full]
        for index, level in enumerate(plan.levels):
            sizes += [level.inner] * self.pairs[index]
            if index + 1 < len(plan.levels):
                sizes.append(plan.levels[index + 1].full)
        return sizes

    def _outputs(self, plan: Plan) -> list[Size]:
        """Sizes at which an adapter's features are added: before the down-sampler, or after it."""
        following = [level.full for level in plan.levels[1:]] + [plan.levels[-1].inner]
        return [
            level.inner if attends else below
            for level, below, attends in zip(plan.levels, following, self.attends, strict=True)
        ]


class NativeControl:
    """Forward pre-hook of a ControlNet: run it at the size it was trained at, while it is heard.

    Attributes:
        state: of the U-Net that the ControlNet speaks to.
        heard: whether that U-Net will use what the call under way returns.
    """

    def __init__(self, state: CallState) -> None:
        self.state = state
        self.heard = True

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments | None:
        del module
        sample = args[0] if args else kwargs["sample"]
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        self.heard = self.state.hears_control(sample, timestep)
        height, width = sample.shape[-2:]
        native_size = self.state.resolved.native_size
        if not self.heard or enlargement(Size(height, width), native_size) <= 1:
            return None
        size = control_size(height, width, native_size)
        changes: dict[str, Any] = {}
        if args:
            args = (F.interpolate(sample, size), *args[1:])
        else:
            changes["sample"] = F.interpolate(sample, size)
        condition = kwargs.get("controlnet_cond")
        if condition is not None:
            changes["controlnet_cond"] = _shrink_condition(condition, height, size)
        return args, kwargs | changes


class SkipUnheard:
    """Stands in for a ControlNet's forward: no work in the steps in which it is not heard.

    Torch's hooks cannot leave a forward out. The U-Net drops the empty answer.
    """

    def __init__(self, controlnet: nn.Module, control: NativeControl) -> None:
        self.controlnet = controlnet
        self.control = control
        self.replaced = vars(controlnet).get("forward")
        self.__wrapped__ = controlnet.forward
        controlnet.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.control.heard:
            return self.__wrapped__(*args, **kwargs)
        sample = args[0] if args else kwargs["sample"]
        middle = sample.new_zeros(sample.shape[0], 1, 1, 1)
        skips: Any = ()
        if kwargs.get("return_dict", True):
            return ControlNetOutput(down_block_res_samples=skips, mid_block_res_sample=middle)
        return skips, middle

    def remove(self) -> None:
        """Give the forward back, or pass every call on if something else stands in front by now."""
        self.control.heard = True
        if vars(self.controlnet).get("forward") is not self:
            return
        del self.controlnet.forward
        if self.replaced is not None:
            self.controlnet.forward = self.replaced


def control_size(height: int, width: int, native_size: int) -> Size:
    """Bring the longer side to native, both sides down to multiples of 8 (authors' code)."""
    factor = max(height, width) / native_size
    return Size(*(max(8, int(side // factor) // 8 * 8) for side in (height, width)))


def _shrink_condition(condition: Any, latent_height: int, size: Size) -> Any:
    if isinstance(condition, list | tuple):
        return [_shrink_condition(entry, latent_height, size) for entry in condition]
    if not isinstance(condition, torch.Tensor):
        return condition
    pixels = condition.shape[-2] // latent_height
    return F.interpolate(condition, (size.height * pixels, size.width * pixels))


def _resize_all(maps: Sequence[torch.Tensor], sizes: Sequence[Size]) -> list[torch.Tensor]:
    """Resize maps to the sizes of their places; those without a place stay."""
    resized = [resize(each, size) for each, size in zip(maps, sizes, strict=False)]
    return resized + list(maps[len(resized) :])


def resize(features: torch.Tensor, size: Size) -> torch.Tensor:
    """Resize a feature map [B, C, H, W] by bicubic interpolation; as it is if the size is right."""
    if tuple(features.shape[-2:]) == tuple(size):
        return features
    return F.interpolate(features, size=tuple(size), mode="bicubic", align_corners=False)
