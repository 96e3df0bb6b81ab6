"""What models tell of the pipelines that a method was applied to, whatever the method."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from hidiffusion.errors import UnannouncedRunWarning


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
