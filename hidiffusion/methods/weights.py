"""How much a low band counts, from the first step of a run to its last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Moment:
    """Where a call of the model stands.

    Attributes:
        step: position in the run, from 0.
        total: calls in the run.
        time: timestep given to the model, as a fraction of the training steps: 1 is all noise.
    """

    step: int
    total: int
    time: float


class Weight(Protocol):
    """A weight schedule: a pure function of the moment."""

    def __call__(self, moment: Moment) -> float:
        """Return the weight; 0 leaves the prediction alone."""


@dataclass(frozen=True)
class Constant:
    """The same weight in every step."""

    weight: float = 1.0

    def __call__(self, moment: Moment) -> float:
        """Return the weight."""
        del moment
        return self.weight


@dataclass(frozen=True)
class Window:
    """A weight in the first part of the steps, and 0 after it (DiffuseHigh's `dwt_steps`).

    Attributes:
        weight: in the window.
        end: fraction of the steps at which the window ends.
    """

    weight: float = 1.0
    end: float = 1.0

    def __call__(self, moment: Moment) -> float:
        """Return the weight."""
        return self.weight if _inside(moment, self.end) else 0.0


@dataclass(frozen=True)
class Fade:
    """A weight that falls in a straight line over a window, and is 0 after it.

    Attributes:
        weight: in the first step.
        end: fraction of the steps at which the window ends.
        fade: share of the weight that is gone at the end of the window.
    """

    weight: float = 1.0
    end: float = 1.0
    fade: float = 1.0

    def __call__(self, moment: Moment) -> float:
        """Return the weight."""
        if not _inside(moment, self.end):
            return 0.0
        return self.weight * (1 - self.fade * moment.step / (self.end * moment.total))


@dataclass(frozen=True)
class TimeWindow:
    """A weight while the timestep is at least (1 - eta) of the training steps.

    Upsample Guidance (arXiv 2404.01709) gives its window so.
    """

    weight: float
    eta: float

    def __call__(self, moment: Moment) -> float:
        """Return the weight."""
        return self.weight if moment.time >= 1 - self.eta else 0.0


def _inside(moment: Moment, end: float) -> bool:
    """The slack undoes rounding: 7 / 15 of 15 steps are 7, not 7 and a bit."""
    return moment.step < end * moment.total - 1e-9
