"""What a section measures with: its device, its time, and the rows it reports."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

GIB = 2**30
#: A call that takes longer is repeated less often.
LONG_SECONDS = 0.5


@dataclass(frozen=True)
class Bench:
    """One section's run.

    Attributes:
        device: where models compute.
        tiny: miniature shapes and counts, so that the program itself can be tried on a CPU.
        deadline: on the clock of `time.monotonic`; a section looks at `left` before it starts
            something long.
        known: what earlier runs reported, by name; a section leaves it out.
    """

    device: torch.device
    tiny: bool
    deadline: float
    known: frozenset[str] = frozenset()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of whole models: bfloat16, which needs no care for overflow."""
        return torch.float32 if self.device.type == "cpu" else torch.bfloat16

    @property
    def left(self) -> float:
        """Seconds until this section must have ended."""
        return self.deadline - time.monotonic()

    def row(self, what: str, **figures: Any) -> None:
        """Report one result at once: what is killed later keeps it."""
        print(json.dumps({"what": what, **figures}), file=sys.stdout, flush=True)

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object], *, warmup: int = 2, repeats: int = 5) -> float:
        """Return the median wall-clock seconds of a call, the device waited for.

        A call of more than half a second is warm after one, and is timed twice.
        """
        warmup, repeats = (0, 1) if self.tiny else (warmup, repeats)
        first = self._timed(call) if warmup else 0.0
        if first > LONG_SECONDS:
            warmup, repeats = 1, min(repeats, 2)
        for _ in range(warmup - 1):
            self._timed(call)
        return statistics.median(self._timed(call) for _ in range(repeats))

    def _timed(self, call: Callable[[], object]) -> float:
        self.synchronize()
        begin = time.perf_counter()
        call()
        self.synchronize()
        return time.perf_counter() - begin

    @contextmanager
    def memory(self) -> Iterator[dict[str, float]]:
        """Fill in `gib`, the most that PyTorch had allocated in the block; nothing on a CPU."""
        found: dict[str, float] = {}
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        yield found
        if self.device.type == "cuda":
            found["gib"] = round(torch.cuda.max_memory_allocated(self.device) / GIB, 2)


def free() -> None:
    """Give unused memory back to the device before the next model."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
