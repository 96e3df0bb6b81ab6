"""What one generation asks for, and what its caller is told of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """How far a generation is, over all its passes.

    Attributes:
        step: calls of the model that are done.
        total: calls of the model in all.
        fraction: share of the work that is done; a call counts for more in a larger picture.
        pass_index: the pass under way, from 0.
        num_passes: number of passes.
        pass_step: calls of the model in this pass that are done.
        pass_total: calls of the model in this pass.
        latents: as they stand, [B, C, h, w], of the size of the pass.
    """

    step: int
    total: int
    fraction: float
    pass_index: int
    num_passes: int
    pass_step: int
    pass_total: int
    latents: Tensor = field(repr=False)


#: Told of each step; an exception ends the generation and reaches the caller.
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class PassRun:
    """A pass that is about to run.

    Attributes:
        index: its number, from 0.
        pipe: the pipeline that runs, with the scheduler that it steps.
        generator: its random generator, or one for each sample.
        earlier: what the passes before it left to the later ones, a tensor each; None where the
            pass needs more of the past than these, so that it can only be run from the beginning.
    """

    index: int
    pipe: Any
    generator: Any
    earlier: tuple[Tensor, ...] | None = field(repr=False)


#: Gives what is to be entered around each pass, before anything that the method itself enters.
Around = Callable[[PassRun], AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one generation asks of a method.

    Attributes:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        seed: decides all noise; one for each sample of the batch if a tuple.
        arguments: keyword arguments of the pipeline.
        options: fields of the method's configuration, without the seed.
        on_progress: told of each step.
        alive: called more often than that, between tiles of the autoencoder.
        around: entered around each pass.
        earlier: what the first passes left in an equal generation; these are not run again.
    """

    width: int
    height: int
    seed: int | tuple[int, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    on_progress: OnProgress | None = None
    alive: Callable[[], None] = lambda: None
    around: Around = lambda _: nullcontext()
    earlier: tuple[Tensor, ...] = ()

    def generator(self, index: int) -> Any:
        """Return the random generator of a pass, which earlier passes do not change."""
        seeds = self.seed if isinstance(self.seed, tuple) else (self.seed,)
        made = [torch.Generator("cpu").manual_seed(pass_seed(seed, index)) for seed in seeds]
        return made if isinstance(self.seed, tuple) else made[0]


def pass_seed(seed: int, index: int) -> int:
    """Return the seed of a pass: the request's own for the first, a hash of both for others."""
    if index == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")
