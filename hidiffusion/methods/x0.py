"""Changing the predicted x0 in any scheduler: a hook in front of its `step`, and low-band guides.

Every pipeline hands the guided output of its model to `scheduler.step`, so what stands there sees
the final prediction of every kind of pipeline, and changes it for every scheduler.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hidiffusion.clock import Clock, Tick
from hidiffusion.methods.bands import Splitter, x0_low_band
from hidiffusion.methods.noise import prediction


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

    def before(self, end: float) -> bool:
        """Tell whether it lies in the first part of the run, `end` being a fraction of the steps.

        The slack undoes rounding: 7 / 15 of 15 steps are 7, not 7 and a bit.
        """
        return self.step < end * self.total - 1e-9


#: Gives the x0 to go on with, or the one it was given to leave the step alone.
Adjust = Callable[[Tensor, Moment], Tensor]
#: Told the latents after each step.
Observe = Callable[[Tensor], None]
#: A weight schedule: a pure function of the moment; 0 leaves the prediction alone.
Weight = Callable[[Moment], float]


@dataclass(frozen=True)
class Fade:
    """A weight in the first part of the steps, and 0 after it.

    Attributes:
        weight: in the first step.
        end: fraction of the steps at which it ends.
        fade: share of the weight that is gone at the end, in a straight line; 0 keeps it constant.
    """

    weight: float = 1.0
    end: float = 1.0
    fade: float = 0.0

    def __call__(self, moment: Moment) -> float:
        """Return the weight."""
        if not moment.before(self.end):
            return 0.0
        return self.weight * (1 - self.fade * moment.step / (self.end * moment.total))


@dataclass(frozen=True)
class NoisyPart:
    """A weight while the timestep is at least (1 - eta) of the training steps.

    Upsample Guidance (arXiv 2404.01709) acts in this part.
    """

    weight: float
    eta: float

    def __call__(self, moment: Moment) -> float:
        """Return the weight."""
        return self.weight if moment.time >= 1 - self.eta else 0.0


def moment_of(tick: Tick, scheduler: Any) -> Moment:
    """Tell where a call stands, for weights.

    Args:
        tick: what the clock says of the call.
        scheduler: a diffusers scheduler whose timesteps are set.
    """
    step, total = tick.position
    # EDM and IPNDM number their steps otherwise; for them the position has to do.
    if max(tick.run.timesteps) <= 1:
        return Moment(step, total, 1 - step / total)
    return Moment(step, total, tick.timestep / scheduler.config.get("num_train_timesteps", 1000))


class StepHook:
    """Stands in the place of `scheduler.step` and calls it with an adjusted output.

    Attributes:
        scheduler: whose `step` it stands for.
        before: what stood there in the place of the class's own `step`, or None.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.before: Callable[..., Any] | None = vars(scheduler).get("step")
        self.adjusts: list[Adjust] = []
        self.observers: list[Observe] = []
        self.clock = Clock()
        # Pipelines look for `eta` and `generator` among the parameters.
        self.__signature__ = inspect.signature(scheduler.step)

    def __call__(
        self, model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        if self.adjusts:
            tick = self.clock.at(timestep, [self.scheduler.timesteps])
            moment = moment_of(tick, self.scheduler)
            for adjust in self.adjusts:
                model_output = self._adjusted(adjust, moment, model_output, timestep, sample)
        step = self.before or functools.partial(type(self.scheduler).step, self.scheduler)
        result = step(model_output, timestep, sample, *args, **kwargs)
        for observe in self.observers:
            observe(result[0])
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> StepHook:
        """Bind to the copied scheduler; a hook outside its scheduler's copy stays where it is."""
        copied = StepHook.__new__(StepHook)
        copied.scheduler = memo.get(id(self.scheduler), self.scheduler)
        copied.before, copied.clock = None, Clock()
        copied.adjusts, copied.observers = list(self.adjusts), list(self.observers)
        copied.__signature__ = self.__signature__
        return copied

    def _adjusted(
        self, adjust: Adjust, moment: Moment, output: Tensor, timestep: Any, sample: Tensor
    ) -> Tensor:
        clean = prediction(self.scheduler, timestep)
        wide = torch.promote_types(sample.dtype, torch.float32)
        x0 = clean.x0(sample.to(wide), output.to(wide))
        with torch.autocast(sample.device.type, enabled=False):  # filters lose too much in it
            adjusted = adjust(x0, moment)
        if adjusted is x0:
            return output
        return (output.to(wide) + clean.output_change(adjusted - x0)).to(output.dtype)


@contextmanager
def adjusted_x0(scheduler: Any, adjust: Adjust) -> Iterator[None]:
    """Adjust the predicted x0 of every step inside a `with` block.

    Args:
        scheduler: a diffusers scheduler; the pipeline's at the time of the call.
        adjust: gives the x0 to go on with, from x0 [B, C, h, w] in float32 or better and the
            moment.
    """
    with _hooked(scheduler) as hook:
        hook.adjusts.append(adjust)
        try:
            yield
        finally:
            hook.adjusts.remove(adjust)


@contextmanager
def observed_steps(scheduler: Any, observe: Observe) -> Iterator[None]:
    """Tell the latents after every step inside a `with` block.

    Args:
        scheduler: a diffusers scheduler.
        observe: called with the latents; an exception ends the run and reaches the caller.
    """
    with _hooked(scheduler) as hook:
        hook.observers.append(observe)
        try:
            yield
        finally:
            hook.observers.remove(observe)


@contextmanager
def _hooked(scheduler: Any) -> Iterator[StepHook]:
    hook = vars(scheduler).get("step")
    if not isinstance(hook, StepHook):
        hook = StepHook(scheduler)
        scheduler.step = hook
    try:
        yield hook
    finally:
        if vars(scheduler).get("step") is hook and not hook.adjusts and not hook.observers:
            del scheduler.step
            if hook.before is not None:
                scheduler.step = hook.before


class LowBandGuide:
    """Holds the low band of x0 to that of a reference.

    Args:
        reference: clean latents [B, C, h, w] of the size that is drawn, or a function of the
            moment that gives them, such as `Trajectory.at`.
        splitter: says what the low band is.
        weight: how much it counts, by moment.
    """

    def __init__(
        self, reference: Tensor | Callable[[Moment], Tensor], splitter: Splitter, weight: Weight
    ) -> None:
        self._splitter = splitter
        self.weight = weight
        self._band: Callable[[Moment], Tensor]
        if isinstance(reference, Tensor):
            band = splitter.down(reference)
            self._band = lambda _: band
        else:
            self._band = lambda moment: splitter.down(reference(moment))

    def __call__(self, x0: Tensor, moment: Moment) -> Tensor:
        weight = self.weight(moment)
        if weight == 0:
            return x0
        return x0_low_band(x0, self._band(moment), self._splitter, weight)


class Trajectory:
    """The predicted x0 of every step of a run, kept to guide a larger one.

    Args:
        enlarge: takes each x0 to the size of the larger run.
    """

    def __init__(self, enlarge: Callable[[Tensor], Tensor]) -> None:
        self._enlarge = enlarge
        self._times: list[float] = []
        self._states: list[Tensor] = []

    def record(self, x0: Tensor, moment: Moment) -> Tensor:
        """Keep x0 and leave it as it is: an `Adjust`."""
        self._times.append(moment.time)
        self._states.append(x0)
        return x0

    def at(self, moment: Moment) -> Tensor:
        """Return the x0 that was predicted nearest to this time, enlarged."""
        distances = [abs(time - moment.time) for time in self._times]
        return self._enlarge(self._states[distances.index(min(distances))])
