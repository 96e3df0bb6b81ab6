"""Applying positions, windows and time shift to a model, and taking them back from a record."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, TypeVar

from hidiffusion.applied import AttachedPipeline, TellOnce, differences, forget_gone
from hidiffusion.errors import AlreadyAppliedError, MissingSchedulerError
from hidiffusion.transformer.config import TransformerConfig
from hidiffusion.transformer.families import find_transformer
from hidiffusion.transformer.record import RECORD, Record, record_of
from hidiffusion.transformer.upstream import RUN_STARTS

Model = TypeVar("Model")


def apply(model: Model, config: TransformerConfig | None = None, *, scheduler: Any = None) -> Model:
    """Make a diffusion transformer draw pictures beyond its training size.

    Pictures of native size or less come out bit-equal to the unpatched model. Applying again
    replaces the settings. What was applied to pipelines goes with the last of them.

    Args:
        model: a diffusers pipeline with a transformer of a known family, or such a transformer.
        config: settings.
        scheduler: for a transformer without a pipeline, the scheduler that runs it.

    Returns:
        The model itself, patched.

    Raises:
        UnsupportedModelError: the transformer or an attention processor of it is not known.
        MissingSchedulerError: windows have nothing to tell them where a step stands.
        AlreadyAppliedError: another pipeline of this transformer has it with other settings.
        InvalidConfigError: a setting contradicts the scheduler.
    """
    asked = config or TransformerConfig()
    transformer = find_transformer(model)
    pipeline = None if model is transformer or not hasattr(model, "scheduler") else model
    if pipeline is None and scheduler is None and asked.window_grid != 1:
        raise MissingSchedulerError(
            f"found {type(transformer).__name__} without a scheduler, which tells windows where a "
            "step stands; apply to a pipeline, or give scheduler="
        )
    _leave_exchanged(model, transformer)
    record = record_of(transformer)
    if record is not None and record.config != asked and pipeline is not None:
        _refuse_difference(record, pipeline, asked)
    found = record or Record(weakref.ref(transformer), asked)
    found.scheduler = scheduler or found.scheduler
    if pipeline is not None and PipelinePatch.of(pipeline) is None:
        PipelinePatch(pipeline, found)
    found.by_itself = found.by_itself or pipeline is None
    if record is None or record.config != asked or scheduler is not None:
        try:
            found.set(asked)
        except Exception:
            if record is None:
                found.remove()
            raise
    forget_gone(transformer)
    return model


def remove(model: Model) -> Model:
    """Take everything back: the model computes bit for bit what it did before.

    Args:
        model: a pipeline or a transformer, patched or not.

    Raises:
        UnsupportedModelError: the model has no transformer of a known family.
    """
    mine = PipelinePatch.of(model)
    if mine is not None:
        mine.record.remove()  # also where the pipeline has got another transformer since
    transformer = find_transformer(model)
    record = record_of(transformer)
    if record is not None:
        record.remove()
    forget_gone(transformer)
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
    transformer = find_transformer(model)
    record = record_of(transformer)
    before = None if record is None else replace(record, pipelines=[*record.pipelines])
    attached = PipelinePatch.of(model) is not None
    apply(model, config, scheduler=scheduler)
    try:
        yield model
    finally:
        if record is None or before is None:
            remove(model)
        else:
            if record_of(transformer) is record:
                record.restore(before)
            if attached and find_transformer(model) is not transformer:
                apply(model, before.config)


class PipelinePatch(AttachedPipeline):
    """What was done to a pipeline: has the method act in its runs, whatever parts it has then."""

    RECORD = RECORD
    RUN_STARTS = RUN_STARTS
    record: Record

    def begin(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        """Begin a run: follow the pipeline to the transformer and the scheduler that it has now."""
        del args, kwargs
        if pipeline.transformer is None:
            return  # prompts may be encoded before the rest is loaded
        if record_of(find_transformer(pipeline)) is not self.record:
            apply(pipeline, self.record.config)
        else:
            self.record.run_by(self)

    def collected(self) -> None:
        """The last pipeline takes the method with it, and the transformer says so."""
        self.detach()
        transformer = self.record.model
        if self.record.remove_if_orphaned() and transformer is not None:
            TellOnce(transformer, "hidiffusion.transformer.apply(second)")


def _leave_exchanged(model: Any, transformer: Any) -> None:
    """Leave the transformer that a pipeline had before, with its last pipeline."""
    mine = PipelinePatch.of(model)
    if mine is not None and mine.record is not record_of(transformer):
        mine.detach()
        mine.record.remove_if_orphaned()


def _refuse_difference(record: Record, pipeline: Any, asked: TransformerConfig) -> None:
    """Refuse other settings than another pipeline of the transformer has."""
    alive = [each.pipeline() for each in record.pipelines]
    other = next((each for each in alive if each is not None and each is not pipeline), None)
    if other is None:
        return
    pairs = [
        (entry.name, getattr(record.config, entry.name), getattr(asked, entry.name))
        for entry in fields(TransformerConfig)
    ]
    raise AlreadyAppliedError(
        f"another pipeline of this transformer, a {type(other).__name__}, has it with other "
        f"settings: {differences(pairs)}; call hidiffusion.transformer.remove on it first"
    )
