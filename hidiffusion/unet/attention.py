"""MSW-MSA (paper, section 3.3): hooks that put a self-attention's tokens in windows and back.

They sit around the attention module, not its processor, so whatever computes the attention stays:
any processor set before or after, any backend, LoRA layers, slicing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hidiffusion.errors import HiDiffusionError
from hidiffusion.unet.plan import CallState
from hidiffusion.unet.windows import Windows, merge, partition


class _WindowHook:
    """Knows the partition of its block in the call under way."""

    def __init__(self, state: CallState, block: int) -> None:
        self.state = state
        self.block = block

    def _windows(self) -> Windows | None:
        partitions = self.state.required().windows
        return partitions[self.block] if partitions else None


class WindowPartition(_WindowHook):
    """Forward pre-hook: hidden states [B, N, C] become windows [B * num_windows, n, C]."""

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        del module
        windows = self._windows()
        if windows is None:
            return None
        if args:
            return (self._split(args[0], windows), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": self._split(kwargs["hidden_states"], windows)}

    def _split(self, tokens: torch.Tensor, windows: Windows) -> torch.Tensor:
        expected = windows.scatter.shape[0]
        if tokens.shape[0] * tokens.shape[1] != expected:
            raise HiDiffusionError(
                f"windowed block {self.block} got tokens {tuple(tokens.shape)}, planned were "
                f"{expected} in all; another patch changes the size of this feature map: remove it"
            )
        return partition(tokens, windows.to(tokens.device))


class WindowMerge(_WindowHook):
    """Forward hook: attention output [B * num_windows, n, C] becomes [B, N, C]."""

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor
    ) -> torch.Tensor | None:
        del module, args
        windows = self._windows()
        return None if windows is None else merge(output, windows.to(output.device))
