"""Applying the method to a model, and taking it back from a record of what was done."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from torch import nn
from torch.utils.hooks import RemovableHandle

from hidiffusion import upstream
from hidiffusion.errors import AlreadyAppliedError, MissingSchedulerError
from hidiffusion.unet.attention import WindowMerge, WindowPartition
from hidiffusion.unet.config import HiDiffusionConfig, ResolvedConfig
from hidiffusion.unet.families import resolve
from hidiffusion.unet.plan import CallState, ForgetCall, PlanCall, WindowPlace
from hidiffusion.unet.resolution import (
    FitResiduals,
    NativeControl,
    Pool,
    SkipUnheard,
    SparseDownsample,
    Unpool,
    UpsampleTo,
)
from hidiffusion.unet.sites import Sites, dissect, find_unet, structure

Model = TypeVar("Model")

#: Attribute of a patched U-Net and of a patched pipeline that holds the record.
_RECORD = "_hidiffusion"


@dataclass(frozen=True)
class Request:
    """What was asked for: equal requests make applying twice the same as once."""

    raunet: bool
    window_attention: bool
    config: HiDiffusionConfig


@dataclass
class UNetRecord:
    """What was done to a U-Net."""

    request: Request
    resolved: ResolvedConfig
    state: CallState
    handles: list[RemovableHandle] = field(default_factory=list)

    def undo(self) -> None:
        """Take every hook back."""
        while self.handles:
            self.handles.pop().remove()


def apply_hidiffusion(
    model: Model,
    *,
    raunet: bool = True,
    window_attention: bool = True,
    config: HiDiffusionConfig | None = None,
    seed: int | tuple[int, ...] | None = None,
    scheduler: Any = None,
    apply_raunet: bool | None = None,
    apply_window_attn: bool | None = None,
) -> Model:
    """Make a pipeline or a U-Net draw pictures beyond its training size, faster.

    Pictures of native size or less come out bit-equal to the unpatched model. Applying the same
    again changes nothing.

    Args:
        model: a diffusers pipeline with a `UNet2DConditionModel`, or such a U-Net.
        raunet: shrink the deep feature maps in the early steps.
        window_attention: window the self-attention of the top levels.
        config: settings; the published ones if None.
        seed: short for `config.seed`.
        scheduler: for a U-Net without a pipeline, the scheduler that runs it.
        apply_raunet: the authors' name for `raunet`.
        apply_window_attn: the authors' name for `window_attention`.

    Returns:
        The model itself, patched.

    Raises:
        UnsupportedModelError: the model has no U-Net of a known family.
        InvalidConfigError: a setting contradicts the model.
        MissingSchedulerError: RAU-Net has nothing to tell it where a step stands.
        AlreadyAppliedError: applied before with other settings.
    """
    asked = config or HiDiffusionConfig()
    request = Request(
        raunet=raunet if apply_raunet is None else apply_raunet,
        window_attention=window_attention if apply_window_attn is None else apply_window_attn,
        config=asked if seed is None else replace(asked, seed=seed),
    )
    unet = find_unet(model)
    record: UNetRecord | None = getattr(unet, _RECORD, None)
    if record is None:
        record = _patch_unet(unet, request, scheduler or getattr(model, "scheduler", None))
    elif record.request != request:
        raise AlreadyAppliedError(
            f"HiDiffusion is applied with {record.request}; asked was {request}; call "
            "remove_hidiffusion first"
        )
    if scheduler is not None:
        record.state.use(scheduler)
    if not isinstance(model, nn.Module):
        _patch_pipeline(model, record)
    return model


def remove_hidiffusion(model: Model) -> Model:
    """Take the method back: the model computes bit for bit what it did before.

    Args:
        model: a pipeline or U-Net, patched or not.

    Returns:
        The model itself.

    Raises:
        UnsupportedModelError: the model has no U-Net.
    """
    unet = find_unet(model)
    record: UNetRecord | None = getattr(unet, _RECORD, None)
    if record is not None:
        record.undo()
        delattr(unet, _RECORD)
    start = vars(model).get(upstream.RUN_START)
    if isinstance(start, RunStart):
        start.undo()
        delattr(model, upstream.RUN_START)
    return model


@contextmanager
def patched(model: Model, **arguments: Any) -> Iterator[Model]:
    """Apply the method inside a `with` block, and leave the model as it was found.

    Args:
        model: a pipeline or U-Net.
        **arguments: those of `apply_hidiffusion`.

    Yields:
        The model itself, patched.
    """
    applied_before = hasattr(find_unet(model), _RECORD)
    apply_hidiffusion(model, **arguments)
    try:
        yield model
    finally:
        if not applied_before:
            remove_hidiffusion(model)


class RunStart:
    """Stands in front of the pipeline method that begins a run: notes the run and its seeds."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = weakref.ref(pipeline)
        self.handles: list[RemovableHandle | SkipUnheard] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        pipeline: Any = self.pipeline()
        record: UNetRecord | None = getattr(find_unet(pipeline), _RECORD, None)
        if record is None:  # removed through the U-Net or another pipeline that has it
            self.undo()
        else:
            record.state.begin(pipeline, kwargs.get("generator", args[0] if args else None))
            self.attend_to_controlnets(record)
        return getattr(type(pipeline), upstream.RUN_START)(pipeline, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {"pipeline": self.pipeline(), "handles": self.handles}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.pipeline = weakref.ref(state["pipeline"])
        self.handles = state["handles"]

    def attend_to_controlnets(self, record: UNetRecord) -> None:
        """Have every ControlNet the pipeline has now run at native size, while it is heard."""
        if not record.request.raunet:
            return
        for controlnet in upstream.controlnets(self.pipeline()):
            control = _native_control(controlnet)
            if control is None:
                control = NativeControl(record.state)
                hook = controlnet.register_forward_pre_hook(control, with_kwargs=True)
                self.handles += [hook, SkipUnheard(controlnet, control)]
            control.state = record.state

    def undo(self) -> None:
        """Take the hooks of the ControlNets back."""
        while self.handles:
            self.handles.pop().remove()


def _patch_pipeline(pipeline: Any, record: UNetRecord) -> None:
    record.state.follow(pipeline)
    if hasattr(type(pipeline), upstream.RUN_START):
        start = vars(pipeline).get(upstream.RUN_START)
        if not isinstance(start, RunStart):
            start = RunStart(pipeline)
            setattr(pipeline, upstream.RUN_START, start)
        start.attend_to_controlnets(record)


def _plan_calls(module: nn.Module, state: CallState) -> list[RemovableHandle]:
    return [
        module.register_forward_pre_hook(PlanCall(state), with_kwargs=True, prepend=True),
        module.register_forward_hook(ForgetCall(state), always_call=True),
    ]


def _native_control(controlnet: nn.Module) -> NativeControl | None:
    hooks = controlnet._forward_pre_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, NativeControl)), None)


def _patch_unet(unet: nn.Module, request: Request, scheduler: Any) -> UNetRecord:
    resolved = resolve(request.config, structure(unet))
    if not request.raunet:
        resolved = replace(resolved, rad_level=None, pool_level=None)
    if not request.window_attention:
        resolved = replace(resolved, window_levels=())
    needs_position = resolved.rad_level is not None or resolved.pool_level is not None
    if needs_position and scheduler is None and resolved.timesteps is None:
        raise MissingSchedulerError(
            f"found {type(unet).__name__} without a scheduler, which tells RAU-Net where a step "
            "stands; apply to a pipeline, or give scheduler= or HiDiffusionConfig(timesteps=...)"
        )
    upstream.guard_hooks()
    sites = dissect(unet, resolved)
    places = [WindowPlace(site.level, site.inner) for site in sites.windows]
    state = CallState(resolved, places, needs_position=needs_position)
    state.use(scheduler)
    record = UNetRecord(request, resolved, state, _plan_calls(unet, state))
    record.handles += _attach_windows(sites, state)
    if request.raunet:
        record.handles += _attach_raunet(sites, state)
    setattr(unet, _RECORD, record)
    return record


def _attach_windows(sites: Sites, state: CallState) -> Iterator[RemovableHandle]:
    for block, site in enumerate(sites.windows):
        split = WindowPartition(state, block)
        yield site.attention.register_forward_pre_hook(split, with_kwargs=True)
        yield site.attention.register_forward_hook(WindowMerge(state, block))


def _attach_raunet(sites: Sites, state: CallState) -> Iterator[RemovableHandle]:
    fit = FitResiduals(state, sites.pairs, sites.attends)
    yield sites.unet.register_forward_pre_hook(fit, with_kwargs=True)
    if sites.downsampler is not None:
        yield sites.downsampler.register_forward_pre_hook(SparseDownsample(state))
    if sites.pool is not None and sites.unpool is not None:
        yield sites.pool.register_forward_hook(Pool(state))
        yield sites.unpool.register_forward_hook(Unpool(state))
    for upsampler, level in sites.upsamplers:
        yield upsampler.register_forward_pre_hook(UpsampleTo(state, level))
