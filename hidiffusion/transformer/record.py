"""What was done to a transformer: its hooks, whom they belong to, and how they are taken back."""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from hidiffusion.applied import AttachedPipeline
from hidiffusion.clock import Clock, Position
from hidiffusion.errors import (
    MissingSchedulerError,
    UnannouncedRunWarning,
    UnsupportedPipelineError,
)
from hidiffusion.transformer.attention import WindowedProcessor
from hidiffusion.transformer.calls import CallReader, cuts, plan
from hidiffusion.transformer.config import TransformerConfig
from hidiffusion.transformer.families import family_of, native_tokens
from hidiffusion.transformer.processors import windowed
from hidiffusion.transformer.rope import KINDS, Positions
from hidiffusion.transformer.schedule import forget_copied, may_be_stepping, time_shift
from hidiffusion.upstream import guard_hooks

#: Attribute that holds the record: of a patched transformer, and of a pipeline that was applied to.
RECORD = "_hidiffusion_transformer"

_FOREIGN_RUN = (
    "windows act in a run that another scheduler steps than that of the pipeline they were applied "
    "to: they do not know its step, and it has no time shift; call "
    "hidiffusion.transformer.apply(second) on the pipeline that runs too"
)

#: Where no scheduler runs, every call is the only one.
_ALONE = Position(0, 1)


@dataclass(eq=False)
class Record:
    """What was done to a transformer.

    Attributes:
        transformer: the model; a record that was copied with it does not know it yet.
        config: what was asked for.
        handles: its hooks.
        processors: attention modules and what was put into them.
        shift: takes the time shift back from the scheduler.
        shifted: the scheduler that has the time shift.
        scheduler: the one that was given, in the place of a pipeline's.
        pipelines: what was done to those that it was applied to, the one that runs first.
        by_itself: whether it was applied to the transformer, so that it outlives all pipelines.
    """

    transformer: weakref.ref[Any] | None
    config: TransformerConfig
    handles: list[RemovableHandle] = field(default_factory=list)
    processors: list[tuple[Any, WindowedProcessor]] = field(default_factory=list)
    shift: ExitStack = field(default_factory=ExitStack)
    shifted: Any = None
    scheduler: Any = None
    pipelines: list[AttachedPipeline] = field(default_factory=list)
    by_itself: bool = False

    def __getstate__(self) -> dict[str, Any]:
        """A transformer that is copied does not carry its pipelines and their scheduler."""
        copied = self.__dict__ | {"transformer": None, "pipelines": []}
        return copied | {"shift": ExitStack(), "shifted": None}

    @property
    def model(self) -> Any:
        """The transformer, or None where it is gone or not known yet."""
        return None if self.transformer is None else self.transformer()

    def running(self) -> Any:
        """Return the scheduler that steps the run, also after a pipeline got another one."""
        if self.scheduler is not None:
            return self.scheduler
        alive = (each.pipeline() for each in self.pipelines)
        return next((pipe.scheduler for pipe in alive if pipe is not None), None)

    def run_by(self, pipeline: AttachedPipeline) -> None:
        """Take the place of a call, and the time shift, from a pipeline's scheduler from now on.

        Raises:
            InvalidConfigError: the scheduler cannot have the time shift.
        """
        self.pipelines.sort(key=lambda each: each is not pipeline)
        if self.shifted is not None and self.shifted is not self.running():
            self.set(self.config)

    def set(self, config: TransformerConfig) -> None:
        """Put hooks with these settings in the place of those that are there.

        Raises:
            HiDiffusionError: the model cannot have them; it keeps what it has.
        """
        before, transformer = self.config, self.model
        self._detach()
        try:
            self._attach(transformer, config)
        except Exception:
            self._detach()
            if record_of(transformer) is self:
                self._attach(transformer, before)
            raise
        self.config = config
        setattr(transformer, RECORD, self)

    def restore(self, before: Record) -> None:
        """Go back to what a copy of this record says."""
        for each in tuple(self.pipelines):
            if each not in before.pipelines:
                each.detach()
        self.by_itself = before.by_itself
        if (self.config, self.scheduler) != (before.config, before.scheduler):
            self.scheduler = before.scheduler
            self.set(before.config)

    def remove(self) -> None:
        """Take everything back."""
        self._detach()
        for each in tuple(self.pipelines):
            each.detach()
        transformer = self.model
        if transformer is not None and record_of(transformer) is self:
            delattr(transformer, RECORD)

    def remove_if_orphaned(self) -> bool:
        """Take everything back if the last pipeline that it was applied to is gone."""
        if self.pipelines or self.by_itself or not self.handles:
            return False
        self.remove()
        return True

    def _attach(self, transformer: Any, config: TransformerConfig) -> None:
        family = family_of(transformer)
        if config.axes is None:
            config = replace(config, axes="joint" if family.joint else "each")
        native = config.native_tokens or native_tokens(transformer)
        if config.window_grid != 1:
            for name, module in _attentions(transformer):
                processor = windowed(module.processor, name)
                module.set_processor(processor)
                self.processors.append((module, processor))
        positions = KINDS[family.positions](transformer, config, native, family.axes)
        guard_hooks()
        hooks = CallHooks(
            config=config,
            native=native,
            reader=CallReader(family, family.patch),
            scheduler=self.running,
            processors=[processor for _, processor in self.processors],
            positions=positions,
            looked_up=family.positions == "tables",
            names=tuple(inspect.signature(type(transformer).forward).parameters)[1:],
        )
        self.handles += [
            transformer.register_forward_pre_hook(hooks.before, with_kwargs=True, prepend=True),
            transformer.register_forward_hook(hooks.after, always_call=True),
            *positions.hooks(),
        ]
        scheduler = self.running()
        if scheduler is not None:
            self.shift.enter_context(time_shift(scheduler, family, config.time_shift, native))
            self.shifted = scheduler

    def _detach(self) -> None:
        self.shift.close()
        self.shifted = None
        if (scheduler := self.running()) is not None:
            forget_copied(scheduler)
        while self.handles:
            self.handles.pop().remove()
        while self.processors:
            module, processor = self.processors.pop()
            # Whoever has put another one there since keeps it.
            if module.processor is processor:
                module.set_processor(processor.stock)


def record_of(transformer: Any) -> Record | None:
    """Return what was done to a transformer, or None."""
    found: Record | None = vars(transformer).get(RECORD)
    if found is not None:
        found.transformer = weakref.ref(transformer)  # a copied record does not know its model yet
    return found


def _attentions(transformer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attention modules that see the picture."""
    for name, module in transformer.named_modules():
        if hasattr(module, "set_processor") and not name.startswith("context_refiner"):
            yield name, module


@dataclass(frozen=True, kw_only=True)
class CallHooks:
    """The hooks of a transformer that plan a call and forget it.

    Attributes:
        config: what was asked for.
        native: side of the training pictures in tokens.
        reader: reads the arguments of a call.
        scheduler: gives the scheduler that steps the run, or None.
        processors: those of all blocks, in order.
        positions: the hooks of the position module.
        looked_up: whether positions are looked up by the processors.
        names: of the arguments of a call, in order.
        clock: tells where a call stands.
    """

    config: TransformerConfig
    native: int
    reader: CallReader
    scheduler: Callable[[], Any]
    processors: list[WindowedProcessor]
    positions: Positions
    looked_up: bool
    names: tuple[str, ...]
    clock: Clock = field(default_factory=Clock)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def before(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Plan the call."""
        del module
        arguments = dict(zip(self.names, args, strict=False)) | kwargs
        call = self.reader.read(arguments)
        scheduler = self.scheduler()
        tick = None if scheduler is None else self.clock.of_step(scheduler)
        position = _ALONE if tick is None else tick.position
        planned = plan(self.config, self.native, call, position)
        if planned is None:
            return None
        if planned.windowed and self.processors:
            self._refuse_parallel()
            if tick is None:
                raise MissingSchedulerError(
                    "the pipeline whose scheduler told windows where a step stands is gone; apply "
                    "to the pipeline that runs"
                )
            if not tick.run.told and not may_be_stepping(scheduler):
                tick.run.told = True
                warnings.warn(_FOREIGN_RUN, UnannouncedRunWarning, stacklevel=2)
            made = cuts(
                self.config, call, planned, tick, len(self.processors), places=self.looked_up
            )
            for processor, cut in zip(self.processors, made, strict=True):
                processor.cut = cut
        return (), self.positions.begin(arguments, call, planned)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def after(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        """Forget the call."""
        del module, args, output
        self.positions.finish()
        for processor in self.processors:
            processor.cut = None

    def _refuse_parallel(self) -> None:
        if self.processors[0]._parallel_config is not None:
            raise UnsupportedPipelineError(
                "context parallelism gives each device a strip of the tokens, which has no "
                "windows; use the method positions, or a single device"
            )
