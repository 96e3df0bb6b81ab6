"""Counting of work and of live tensor bytes, on any device, the meta device included.

On the meta device nothing is computed and nothing allocated, so an 8192x8192 decode is counted on
a laptop. Workspaces inside kernels are not tensors and are not counted.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that are alive, and their maximum, while the mode is active.

    Attributes:
        peak: largest number of bytes alive at once.
        peak_working: the same without the feature maps that are kept between layers, which are
            the only tensors made by `torch.empty`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.kept = self.peak = self.peak_working = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        kept = func is torch.ops.aten.empty.memory_format
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage(), kept)
        return result

    def _see(self, storage: torch.UntypedStorage, kept: bool) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        weakref.finalize(storage, self._forget, key, size, kept)
        self.live += size
        self.kept += size * kept
        self.peak = max(self.peak, self.live)
        self.peak_working = max(self.peak_working, self.live - self.kept)

    def _forget(self, key: int, size: int, kept: bool) -> None:
        self._known.discard(key)
        self.live -= size
        self.kept -= size * kept


class FusedAttention(TorchFunctionMode):
    """Lets the meta device treat attention as GPUs do: in one kernel, without its matrix.

    Attributes:
        flops: multiplications and additions of all attentions so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.nn.functional.scaled_dot_product_attention or not args[0].is_meta:
            return func(*args, **(kwargs or {}))
        query, key = args[0], args[1]
        self.flops += 4 * math.prod(query.shape) * key.shape[-2]
        return torch.zeros_like(query)


class Count:
    """Counts FLOPs and live bytes of what runs inside its `with` block."""

    def __init__(self) -> None:
        self._attention = FusedAttention()
        self._flops = FlopCounterMode(display=False)
        self._bytes = LiveBytes()

    def __enter__(self) -> Count:
        for mode in (self._attention, self._flops, self._bytes):
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in (self._bytes, self._flops, self._attention):
            mode.__exit__(*error)

    @property
    def flops(self) -> int:
        """Multiplications and additions, two for each multiply-accumulate."""
        return int(self._flops.get_total_flops()) + self._attention.flops

    @property
    def peak(self) -> int:
        """Largest number of bytes that were alive at once."""
        return self._bytes.peak

    @property
    def peak_working(self) -> int:
        """The same without the feature maps kept between layers."""
        return self._bytes.peak_working
