"""What an engine is: what a kind of model can do, whatever its networks are."""

from collections.abc import Generator
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import torch

from service.domain.requests.request import ResolvedRequest
from service.worker.job.attempt import Attempt
from service.worker.job.region import Missing, Region
from service.worker.job.snapshot import Snapshot
from service.worker.job.stopwatch import Stopwatch
from service.worker.weights.inputs import Pictures


class OnStep(Protocol):
    """Hears of each step; may raise to end the run."""

    def __call__(
        self,
        step: int,
        total: int,
        latents: torch.Tensor,
        snapshot: Snapshot | None,
        *,
        left: float,
    ) -> None:
        """Take notice of a step.

        Args:
            step: steps done, over all that the engine does for the picture.
            total: steps in all.
            latents: as they stand; of engines that work on pixels, a small picture on [-1, 1].
            snapshot: None where the run cannot be taken up again.
            left: work left, in steps that cost what those that are done did on average.
        """


@dataclass(frozen=True)
class Job:
    """What an engine is to do, and whom it tells.

    Attributes:
        attempt: asked, between any two pieces of work, whether to go on.
        request: all that decides the picture.
        on_step: hears of each step: it reports, shows previews and puts snapshots aside.
        missing: asked once before the first region, with the side of the regions.
        stopwatch: takes the times.
        pictures: what the request names, by field.
        begin: where an earlier run of this very request was left; None: from the beginning.
        frugal: take less memory and more time.
    """

    attempt: Attempt
    request: ResolvedRequest
    on_step: OnStep
    missing: Missing
    stopwatch: Stopwatch
    pictures: Pictures = field(default_factory=lambda: MappingProxyType({}))
    begin: Snapshot | None = None
    frugal: bool = False


class Engine(Protocol):
    """What a loaded model can do."""

    def regions(self, job: Job) -> Generator[Region]:
        """Make a picture: its finished regions, in any order, each once, as soon as they are.

        Equal requests give equal pictures. The iterator may be closed between any two regions.
        """


class Upscaler(Engine, Protocol):
    """What a loaded model can do that enlarges pictures."""

    def steps(self, request: ResolvedRequest, /) -> int:
        """How many steps it tells of for a request, whose width and height are the result's."""
