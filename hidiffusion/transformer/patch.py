"""Applying positions, windows and time shift to a model, and taking them back from a record."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import nn

from hidiffusion.clock import Clock, Position
from hidiffusion.errors import AlreadyAppliedError, MissingSchedulerError, UnsupportedPipelineError
from hidiffusion.transformer.attention import WindowedProcessor
from hidiffusion.transformer.calls import CallReader, cuts, plan
from hidiffusion.transformer.config import TransformerConfig
from hidiffusion.transformer.families import family_of, find_transformer, native_tokens
from hidiffusion.transformer.processors import windowed
from hidiffusion.transformer.rope import KINDS, Positions
from hidiffusion.transformer.schedule import time_shift
from hidiffusion.upstream import guard_hooks

Model = TypeVar("Model")

#: Attribute of a patched transformer that holds the record.
_RECORD = "_hidiffusion_transformer"

#: Where no scheduler runs, every call is the only one.
_ALONE = Position(0, 1)


@dataclass
class Record:
    """What was done to a transformer."""

    config: TransformerConfig
    undo: ExitStack = field(default_factory=ExitStack)


def apply(model: Model, config: TransformerConfig | None = None, *, scheduler: Any = None) -> Model:
    """Make a diffusion transformer draw pictures beyond its training size.

    Pictures of native size or less come out bit-equal to the unpatched model. Applying the same
    again changes nothing.

    Args:
        model: a diffusers pipeline with a transformer of a known family, or such a transformer.
        config: settings.
        scheduler: for a transformer without a pipeline, the scheduler that runs it.

    Returns:
        The model itself, patched.

    Raises:
        UnsupportedModelError: the transformer or an attention processor of it is not known.
        MissingSchedulerError: windows have nothing to tell them where a step stands.
        AlreadyAppliedError: applied before with other settings.
        InvalidConfigError: a setting contradicts the scheduler.
    """
    asked = config or TransformerConfig()
    transformer = find_transformer(model)
    record: Record | None = getattr(transformer, _RECORD, None)
    if record is None:
        with ExitStack() as undo:
            _attach(undo, transformer, asked, _owner(model, transformer, scheduler, asked))
            setattr(transformer, _RECORD, Record(asked, undo.pop_all()))
    elif record.config != asked:
        raise AlreadyAppliedError(
            f"this transformer is patched with {record.config}; asked was {asked}; remove that "
            "first"
        )
    return model


def remove(model: Model) -> Model:
    """Take everything back: the model computes bit for bit what it did before.

    Args:
        model: a pipeline or a transformer, patched or not.

    Raises:
        UnsupportedModelError: the model has no transformer of a known family.
    """
    transformer = find_transformer(model)
    record: Record | None = getattr(transformer, _RECORD, None)
    if record is not None:
        delattr(transformer, _RECORD)
        record.undo.close()
    return model


@contextmanager
def patched(
    model: Model, config: TransformerConfig | None = None, *, scheduler: Any = None
) -> Iterator[Model]:
    """Apply inside a `with` block, and leave the model as it was found.

    Args:
        model: see `apply`.
        config: see `apply`.
        scheduler: see `apply`.
    """
    found = hasattr(find_transformer(model), _RECORD)
    apply(model, config, scheduler=scheduler)
    try:
        yield model
    finally:
        if not found:
            remove(model)


def _owner(model: object, transformer: Any, scheduler: Any, config: TransformerConfig) -> Any:
    """Return what tells the moment: the pipeline, or the scheduler given."""
    if model is not transformer and hasattr(model, "scheduler") and scheduler is None:
        return model
    if scheduler is None and config.window_grid != 1:
        raise MissingSchedulerError(
            f"found {type(transformer).__name__} without a scheduler, which tells windows where a "
            "step stands; apply to a pipeline, or give scheduler="
        )
    return scheduler


def _attach(undo: ExitStack, transformer: Any, config: TransformerConfig, owner: Any) -> None:
    family = family_of(transformer)
    if config.axes is None:
        config = replace(config, axes="joint" if family.joint else "each")
    native = config.native_tokens or native_tokens(transformer)
    processors: list[WindowedProcessor] = []
    if config.window_grid != 1:
        processors = [_put(undo, name, module) for name, module in _attentions(transformer)]
    positions = KINDS[family.positions](transformer, config, native, family.axes)
    guard_hooks()
    hooks = CallHooks(
        config=config,
        native=native,
        reader=CallReader(family, family.patch),
        scheduler=_followed(owner),
        processors=processors,
        positions=positions,
        looked_up=family.positions == "tables",
        names=tuple(inspect.signature(type(transformer).forward).parameters)[1:],
    )
    before = transformer.register_forward_pre_hook(hooks.before, with_kwargs=True, prepend=True)
    after = transformer.register_forward_hook(hooks.after, always_call=True)
    for handle in (before, after, *positions.hooks()):
        undo.callback(handle.remove)
    scheduler = getattr(owner, "scheduler", owner)
    if scheduler is not None:
        undo.enter_context(time_shift(scheduler, family, config.time_shift, native))


def _followed(owner: Any) -> Callable[[], Any]:
    """Return what gives the scheduler: the pipeline's also after it is exchanged there."""
    if not hasattr(owner, "scheduler"):
        return lambda: owner
    link = weakref.ref(owner)
    return lambda: getattr(link(), "scheduler", None)


def _attentions(transformer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attention modules that see the picture."""
    for name, module in transformer.named_modules():
        if hasattr(module, "set_processor") and not name.startswith("context_refiner"):
            yield name, module


def _put(undo: ExitStack, name: str, module: Any) -> WindowedProcessor:
    processor = windowed(module.processor, name)
    module.set_processor(processor)

    def take_back() -> None:
        # Whoever has put another one there since keeps it.
        if module.processor is processor:
            module.set_processor(processor.stock)

    undo.callback(take_back)
    return processor


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
