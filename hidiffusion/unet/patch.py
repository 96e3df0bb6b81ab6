"""Applying the method to a model, and taking it back from a record of what was done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, replace
from typing import Any, TypeVar

from torch import nn

from hidiffusion import upstream
from hidiffusion.applied import AttachedPipeline, TellOnce, differences, forget_gone
from hidiffusion.clock import Announcement
from hidiffusion.errors import AlreadyAppliedError
from hidiffusion.unet.config import HiDiffusionConfig
from hidiffusion.unet.controlnet import ControlPatch, ControlUser
from hidiffusion.unet.record import (
    RECORD,
    Settings,
    UNetPatch,
    patch_unet,
    record_of,
    resolved_for,
)
from hidiffusion.unet.sites import find_unet

Model = TypeVar("Model")


def apply_hidiffusion(
    model: Model,
    raunet: bool = True,
    window_attention: bool = True,
    *,
    config: HiDiffusionConfig | None = None,
    seed: int | tuple[int, ...] | None = None,
    scheduler: Any = None,
    apply_raunet: bool | None = None,
    apply_window_attn: bool | None = None,
) -> Model:
    """Make a pipeline or a U-Net draw pictures beyond its training size, faster.

    Pictures of native size or less come out bit-equal to the unpatched model. Applying again
    replaces the settings.

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
        AlreadyAppliedError: another pipeline of this U-Net has it with other settings.
    """
    asked = config or HiDiffusionConfig()
    settings = Settings(
        raunet=raunet if apply_raunet is None else apply_raunet,
        window_attention=window_attention if apply_window_attn is None else apply_window_attn,
        config=asked if seed is None else replace(asked, seed=seed),
    )
    _apply(model, settings, scheduler)
    return model


def remove_hidiffusion(model: Model) -> Model:
    """Take the method back: the model computes bit for bit what it did before.

    It is taken from the U-Net and from every pipeline that has it, whichever of them is given.

    Args:
        model: a pipeline or U-Net, patched or not.

    Returns:
        The model itself.

    Raises:
        UnsupportedModelError: the model has no U-Net.
    """
    unet = find_unet(model)
    mine = PipelinePatch.of(model)
    for record in (None if mine is None else mine.record, record_of(unet)):
        if record is not None:
            record.undo()
    forget_gone(unet)
    return model


def is_applied(model: object) -> Settings | None:
    """Return the settings that a pipeline or U-Net has the method with, or None without it.

    Raises:
        UnsupportedModelError: the model has no U-Net.
    """
    record = record_of(find_unet(model))
    return None if record is None else record.settings


@contextmanager
def patched(model: Model, *arguments: Any, **named: Any) -> Iterator[Model]:
    """Apply the method inside a `with` block, and leave the model as it was found.

    Args:
        model: a pipeline or U-Net.
        *arguments: those of `apply_hidiffusion`.
        **named: the same by name.

    Yields:
        The model itself, patched.
    """
    before = is_applied(model)
    attached = PipelinePatch.of(model) is not None
    apply_hidiffusion(model, *arguments, **named)
    try:
        yield model
    finally:
        mine = PipelinePatch.of(model)
        if before is None:
            remove_hidiffusion(model)
        else:
            _apply(model, before, None)
        if before is not None and mine is not None and not attached:
            mine.detach()


def unpatched_calls(model: object) -> AbstractContextManager[None]:
    """Leave the calls of a U-Net, patched or not, as they are inside a `with` block."""
    record = record_of(find_unet(model))
    return nullcontext() if record is None else record.state.bypassed()


class PipelinePatch(AttachedPipeline):
    """What was done to a pipeline: tells the clock of its runs, and keeps its ControlNets."""

    RECORD = RECORD
    RUN_STARTS = (upstream.RUN_START,)
    record: UNetPatch

    def __init__(self, pipeline: Any, record: UNetPatch) -> None:
        self.name = object()
        self.controls: list[ControlPatch] = []
        super().__init__(pipeline, record)

    def _attach(self, pipeline: Any) -> None:
        super()._attach(pipeline)
        self.record.state.follow(pipeline)

    def begin(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        """Begin a run: `prepare_extra_step_kwargs`, with the generator as its first argument."""
        patch = self
        if record_of(find_unet(pipeline)) is not self.record:
            # The U-Net was exchanged: the method follows the pipeline that it was applied to.
            patch = _apply(pipeline, self.record.settings, None) or self
        patch.announce(pipeline, kwargs.get("generator", args[0] if args else None))

    def announce(self, pipeline: Any, generator: Any) -> None:
        """Tell the clock of a run, and see which ControlNets the pipeline has now."""
        state = self.record.state
        told = Announcement(
            pipeline=self.name,
            seeds=upstream.seeds(generator),
            from_image=upstream.starts_from_image(pipeline),
            length=lambda: upstream.run_length(self.pipeline()),
        )
        state.announce(pipeline, told)
        self.attend_to_controlnets(pipeline)

    def attend_to_controlnets(self, pipeline: Any) -> None:
        """Have every ControlNet the pipeline has now run at native size, in its part of the run."""
        if not self.record.settings.raunet:
            return
        now = [ControlPatch.of(controlnet) for controlnet in upstream.controlnets(pipeline)]
        for gone in self.controls:
            if gone not in now:
                gone.release(self.name)
        for control in now:
            control.add(ControlUser(self.name, self.record.state))
        self.controls = now

    def detach(self) -> None:
        """Leave the pipeline and its ControlNets as they were; the U-Net keeps what it has."""
        super().detach()
        while self.controls:
            self.controls.pop().release(self.name)
        self.record.state.leave(self.pipeline())

    def collected(self) -> None:
        """The last pipeline takes the method with it, and the U-Net says so."""
        self.detach()
        unet = None if self.record.unet is None else self.record.unet()
        if self.record.undo_if_orphaned() and unet is not None:
            TellOnce(unet, "apply_hidiffusion(second)")


def _apply(model: Any, settings: Settings, scheduler: Any) -> PipelinePatch | None:
    """Patch the U-Net of a model; return what was done to the model if it is a pipeline."""
    unet = find_unet(model)
    by_itself = isinstance(model, nn.Module)
    mine, record = PipelinePatch.of(model), record_of(unet)
    if mine is not None and mine.record is not record:
        mine.detach()  # from the U-Net that the pipeline had before
        mine.record.undo_if_orphaned()
        mine = None
    if record is not None and record.settings != settings:
        others = [each for each in record.pipelines if each is not mine]
        if others and not by_itself:
            raise AlreadyAppliedError(_difference(record.settings, others[0], settings))
        record = _replaced(unet, record, settings)
    if record is None:
        forget_gone(unet)
        record = patch_unet(unet, settings)
    if scheduler is not None:
        record.state.use(scheduler)
    record.by_itself = record.by_itself or by_itself
    if by_itself:
        return None
    mine = PipelinePatch.of(model) or PipelinePatch(model, record)
    mine.attend_to_controlnets(model)
    return mine


def _replaced(unet: nn.Module, old: UNetPatch, settings: Settings) -> UNetPatch:
    """Patch a U-Net with other settings, for all that it was patched for."""
    resolved_for(unet, settings)  # what is refused is refused before anything is undone
    pipelines = [each.pipeline() for each in old.pipelines]
    old.undo()
    record = patch_unet(unet, settings)
    record.by_itself = old.by_itself
    record.state.use(old.state.given_scheduler)
    for pipeline in pipelines:
        if pipeline is not None:
            PipelinePatch(pipeline, record).attend_to_controlnets(pipeline)
    return record


def _difference(has: Settings, other: AttachedPipeline, asked: Settings) -> str:
    """Say which settings another pipeline of the U-Net has, those that differ alone."""
    pairs = [
        (name, getattr(has, name), getattr(asked, name)) for name in ("raunet", "window_attention")
    ]
    pairs += [
        (f"config.{entry.name}", getattr(has.config, entry.name), getattr(asked.config, entry.name))
        for entry in fields(HiDiffusionConfig)
    ]
    return (
        f"another pipeline of this U-Net, a {type(other.pipeline()).__name__}, has HiDiffusion "
        f"with other settings: {differences(pairs)}; call remove_hidiffusion on it first"
    )
