"""The hooks of a patched U-Net, and the record that takes them back."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from hidiffusion import upstream
from hidiffusion.applied import AttachedPipeline
from hidiffusion.errors import UnsupportedModelError
from hidiffusion.unet.config import HiDiffusionConfig, ResolvedConfig
from hidiffusion.unet.controlnet import FitResiduals
from hidiffusion.unet.families import resolve
from hidiffusion.unet.plan import CallState, WindowedBlock
from hidiffusion.unet.raunet import Pool, SparseDownsample, Unpool, UpsampleTo
from hidiffusion.unet.sites import Sites, dissect, structure
from hidiffusion.unet.windows import WindowedAttention

#: Attribute that holds the record: of a patched U-Net, and of a pipeline that was applied to.
RECORD = "_hidiffusion"


@dataclass(frozen=True)
class Settings:
    """What was asked for, as `is_applied` returns it.

    Attributes:
        raunet: whether the deep feature maps shrink in the early steps.
        window_attention: whether the self-attention of the top levels works in windows.
        config: everything else.
    """

    raunet: bool = True
    window_attention: bool = True
    config: HiDiffusionConfig = field(default_factory=HiDiffusionConfig)


class PlanCall:
    """Forward pre-hook of the U-Net: plan the call.

    A compiled U-Net runs the hooks of its root outside the graph; the disabling keeps them there,
    so the graph reads the plan as data.
    """

    def __init__(self, state: CallState) -> None:
        self.state = state

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled() and getattr(module, "is_gradient_checkpointing", False):
            raise UnsupportedModelError(
                "gradient checkpointing runs the U-Net's blocks again outside its call, where "
                "nothing tells the step; call disable_gradient_checkpointing() on the U-Net, or "
                "remove_hidiffusion for training"
            )
        sample = args[0] if args else kwargs["sample"]
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        controlled = kwargs.get("mid_block_additional_residual") is not None
        self.state.start(sample, timestep, controlled=controlled)


class ForgetCall:
    """Forward hook of the U-Net, also after an exception: forget the plan."""

    def __init__(self, state: CallState) -> None:
        self.state = state

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        del module, args, output
        self.state.finish()


@dataclass
class UNetPatch:
    """What was done to a U-Net.

    Attributes:
        settings: what was asked for.
        state: what its hooks share.
        handles: its hooks.
        pipelines: what was done to pipelines that have it.
        by_itself: whether it was applied to the U-Net, so that it outlives all pipelines.
        unet: the U-Net.
    """

    settings: Settings
    state: CallState
    handles: list[RemovableHandle] = field(default_factory=list)
    pipelines: list[AttachedPipeline] = field(default_factory=list)
    by_itself: bool = False
    unet: weakref.ref[nn.Module] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A U-Net that is copied or stored does not carry its pipelines."""
        return self.__dict__ | {"pipelines": [], "unet": None}

    def undo(self) -> None:
        """Take every hook back, from the pipelines too."""
        while self.handles:
            self.handles.pop().remove()
        for pipeline in tuple(self.pipelines):
            pipeline.detach()
        unet = None if self.unet is None else self.unet()
        if unet is not None and vars(unet).get(RECORD) is self:
            delattr(unet, RECORD)

    def undo_if_orphaned(self) -> bool:
        """Take every hook back if the last pipeline that it was applied to is gone."""
        if self.pipelines or self.by_itself or not self.handles:
            return False
        self.undo()
        return True


def record_of(unet: nn.Module) -> UNetPatch | None:
    record: UNetPatch | None = getattr(unet, RECORD, None)
    if record is not None:
        record.unet = weakref.ref(unet)  # a copied record does not know its U-Net yet
    return record


def patch_unet(unet: nn.Module, settings: Settings) -> UNetPatch:
    resolved = resolved_for(unet, settings)
    shrinks = resolved.rad_level is not None or resolved.pool_level is not None
    changes = resolved.extra_window_start > 0 and len(resolved.window_levels) > 1
    upstream.guard_hooks()
    sites = dissect(unet, resolved)
    blocks = [WindowedBlock(WindowedAttention(), each.level, each.inner) for each in sites.windows]
    state = CallState(resolved, blocks, needs_position=shrinks or changes)
    record = UNetPatch(settings, state, unet=weakref.ref(unet))
    record.handles = [
        unet.register_forward_pre_hook(PlanCall(state), with_kwargs=True, prepend=True),
        unet.register_forward_hook(ForgetCall(state), always_call=True),
        *_attach_windows(sites, blocks),
    ]
    if settings.raunet:
        record.handles += _attach_raunet(unet, sites, state, resolved)
    setattr(unet, RECORD, record)
    return record


def resolved_for(unet: nn.Module, settings: Settings) -> ResolvedConfig:
    resolved = resolve(settings.config, structure(unet))
    if not settings.raunet:
        resolved = replace(resolved, rad_level=None, pool_level=None)
    if not settings.window_attention:
        resolved = replace(resolved, window_levels=())
    return resolved


def _attach_windows(sites: Sites, blocks: list[WindowedBlock]) -> Iterator[RemovableHandle]:
    for site, block in zip(sites.windows, blocks, strict=True):
        yield upstream.pre_hook(site.attention, block.attention.split)
        yield upstream.post_hook(site.attention, block.attention.join)


def _attach_raunet(
    unet: nn.Module, sites: Sites, state: CallState, resolved: ResolvedConfig
) -> Iterator[RemovableHandle]:
    fit = FitResiduals(state, sites.pairs, sites.attends)
    yield unet.register_forward_pre_hook(fit, with_kwargs=True)
    if sites.downsampler is not None:
        yield sites.downsampler.register_forward_pre_hook(SparseDownsample(state))
    if sites.pool is not None and sites.unpool is not None and resolved.pool_level is not None:
        yield sites.pool.register_forward_hook(Pool(state))
        yield sites.unpool.register_forward_hook(Unpool(state, resolved.pool_level))
    for upsampler, level in sites.upsamplers:
        yield upsampler.register_forward_pre_hook(UpsampleTo(state, level))
