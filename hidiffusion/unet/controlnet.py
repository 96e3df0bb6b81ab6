"""ControlNets beside a patched U-Net (authors' code): native size, and only part of the run.

A ControlNet may serve several pipelines, patched and unpatched. So what is done to it acts only in
the runs of the pipelines that it was done for, which the clock tells by the timestep's table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from hidiffusion.unet.plan import CallState, Plan
from hidiffusion.unet.raunet import resize
from hidiffusion.unet.schedule import Size, enlargement
from hidiffusion.upstream import ControlNetOutput

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class FitResiduals:
    """Forward pre-hook of the U-Net: bring the residuals of side networks to the planned sizes.

    A ControlNet runs at native size and a T2I-Adapter at full size; both add to maps of other
    sizes. A ControlNet's are dropped after its part of the run.
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


class ControlUser(NamedTuple):
    """A patched pipeline that has a ControlNet.

    Attributes:
        pipeline: the name by which it announces its runs to the clock.
        state: that of its U-Net.
    """

    pipeline: object
    state: CallState


class ControlPatch:
    """What is done to one ControlNet: a forward pre-hook, and a stand-in for its forward.

    Torch's hooks cannot leave a forward out, which is no work in the steps that drop its answer.

    Attributes:
        users: the pipelines it is done for.
        active: whether the answer of the call under way will be used.
    """

    def __init__(self, controlnet: nn.Module) -> None:
        self.users: list[ControlUser] = []
        self.active = True
        self._controlnet = controlnet
        self._replaced = vars(controlnet).get("forward")
        self._handle = controlnet.register_forward_pre_hook(self, with_kwargs=True)
        self._stand_in = _Forward(self, controlnet.forward)
        controlnet.forward = self._stand_in

    @classmethod
    def of(cls, controlnet: nn.Module) -> ControlPatch:
        """Return the patch of a ControlNet, made if there is none."""
        hooks = controlnet._forward_pre_hooks.values()
        return next((hook for hook in hooks if isinstance(hook, cls)), None) or cls(controlnet)

    def add(self, user: ControlUser) -> None:
        """Act in the runs of a pipeline too; a pipeline is known once."""
        self.users = [each for each in self.users if each.pipeline is not user.pipeline] + [user]

    def release(self, pipeline: object) -> None:
        """Act in this pipeline's runs no more; with the last one all is taken back."""
        self.users = [each for each in self.users if each.pipeline is not pipeline]
        if self.users:
            return
        self.active = True
        self._handle.remove()
        # What something else has stood in front of meanwhile stays, and passes every call on.
        if vars(self._controlnet).get("forward") is self._stand_in:
            del self._controlnet.forward
            if self._replaced is not None:
                self._controlnet.forward = self._replaced

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments | None:
        del module
        sample = args[0] if args else kwargs["sample"]
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        size = Size(*sample.shape[-2:])
        self.active = True
        for user in self.users:
            active = user.state.control_active(size, timestep, user.pipeline)
            if active is not None:
                self.active = active
                return self._at_native_size(user.state, size, args, kwargs) if active else None
        return None

    @staticmethod
    def _at_native_size(
        state: CallState, full: Size, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments | None:
        native_size = state.resolved.native_size
        if enlargement(full, native_size) <= 1:
            return None
        size = control_size(*full, native_size)
        changes: dict[str, Any] = {}
        if args:
            args = (F.interpolate(args[0], size), *args[1:])
        else:
            changes["sample"] = F.interpolate(kwargs["sample"], size)
        condition = kwargs.get("controlnet_cond")
        if condition is not None:
            changes["controlnet_cond"] = _shrink_condition(condition, full.height, size)
        return args, kwargs | changes


class _Forward:
    """Stands in for a ControlNet's forward; the U-Net drops the empty answer."""

    def __init__(self, patch: ControlPatch, forward: Any) -> None:
        self.patch = patch
        self.__wrapped__ = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.patch.active:
            return self.__wrapped__(*args, **kwargs)
        sample = args[0] if args else kwargs["sample"]
        middle = sample.new_zeros(sample.shape[0], 1, 1, 1)
        skips: Any = ()
        if kwargs.get("return_dict", True):
            return ControlNetOutput(down_block_res_samples=skips, mid_block_res_sample=middle)
        return skips, middle


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
