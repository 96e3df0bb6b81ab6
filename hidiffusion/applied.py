"""What models tell of the pipelines that a method was applied to, whatever the method."""

from __future__ import annotations

import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import torch
from torch import nn

from hidiffusion.errors import UnannouncedRunWarning


class AttachedPipeline(ABC):
    """What was done to a pipeline whose model is patched. It goes with its pipeline.

    It is told of each run, by what stands in front of the methods that begin one.

    Attributes:
        RECORD: attribute of a pipeline that holds this.
        RUN_STARTS: methods of pipelines that begin a run, of which each run calls one at least.
        record: what was done to the model.
        pipeline: the pipeline.
    """

    RECORD: ClassVar[str]
    RUN_STARTS: ClassVar[tuple[str, ...]]

    def __init__(self, pipeline: Any, record: Any) -> None:
        self.record = record
        self._attach(pipeline)
        setattr(pipeline, self.RECORD, self)
        for name in self.RUN_STARTS:
            if hasattr(type(pipeline), name):
                setattr(pipeline, name, _RunStart(self, name))

    @classmethod
    def of(cls, model: object) -> Self | None:
        """Return what was done to a pipeline, or None; nothing is done so to other models."""
        found = None if isinstance(model, nn.Module) else vars(model).get(cls.RECORD)
        return found if isinstance(found, cls) else None

    def _attach(self, pipeline: Any) -> None:
        self.pipeline = weakref.ref(pipeline)
        self._finalizer = weakref.finalize(pipeline, self.collected)
        self._finalizer.atexit = False
        self.record.pipelines.append(self)

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: each for name, each in vars(self).items() if name != "_finalizer"}
        return kept | {"pipeline": self.pipeline()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        pipeline = state.pop("pipeline")
        self.__dict__.update(state)
        self._attach(pipeline)

    @abstractmethod
    def begin(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        """Do what a run begins with, given the arguments of the pipeline's own method."""

    @abstractmethod
    def collected(self) -> None:
        """Do what is left to do when the pipeline is gone."""

    def detach(self) -> None:
        """Leave the pipeline as it was; the model keeps what it has."""
        self._finalizer.detach()
        pipeline = self.pipeline()
        known = {} if pipeline is None else vars(pipeline)
        for name in (self.RECORD, *self.RUN_STARTS):
            if self in (known.get(name), getattr(known.get(name), "patch", None)):
                delattr(pipeline, name)
        self.record.pipelines = [each for each in self.record.pipelines if each is not self]


class _RunStart:
    """Stands in front of a method of a pipeline that begins a run."""

    def __init__(self, patch: AttachedPipeline, name: str) -> None:
        self.patch = patch
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        pipeline: Any = self.patch.pipeline()
        self.patch.begin(pipeline, *args, **kwargs)
        return getattr(type(pipeline), self._name)(pipeline, *args, **kwargs)


class TellOnce:
    """Forward pre-hook of a model whose pipeline is gone: the next call says so.

    Args:
        model: the U-Net or transformer.
        remedy: the call that applies the method to another pipeline.
    """

    def __init__(self, model: nn.Module, remedy: str) -> None:
        self._remedy = remedy
        self._handle = model.register_forward_pre_hook(self)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        del module, args
        self.remove()
        warnings.warn(
            "the pipeline that HiDiffusion was applied to is gone, and the method with it; call "
            f"{self._remedy} on the pipeline that runs now",
            UnannouncedRunWarning,
            stacklevel=2,
        )

    def remove(self) -> None:
        """Say nothing."""
        self._handle.remove()


def forget_gone(model: nn.Module) -> None:
    """Say nothing of pipelines that are gone: the method was applied anew, or removed."""
    for hook in tuple(model._forward_pre_hooks.values()):
        if isinstance(hook, TellOnce):
            hook.remove()


def differences(settings: Iterable[tuple[str, object, object]]) -> str:
    """Say which settings differ.

    Args:
        settings: name, value that another pipeline has, and value that was asked for.
    """
    return "; ".join(
        f"{name} is {old!r} there, asked was {new!r}" for name, old, new in settings if old != new
    )
