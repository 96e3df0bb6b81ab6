"""The time shift: how much of the schedule a larger picture spends in noise.

Pipelines shift the schedule by e^mu and let mu grow in a straight line with the number of tokens,
a line that was meant between 256 and 4096 of them. Far beyond, at 65536 tokens, mu is 11.55: the
step before the last one is at sigma 0.9997, so the whole picture is left to one step.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hidiffusion.errors import InvalidConfigError
from hidiffusion.transformer.families import Family

#: Lines of Flux.2's own rule, slope and offset: of runs of 10 steps, and of 200 or large pictures
#: (diffusers 0.42.1, `compute_empirical_mu`).
_TEN_STEPS = (8.73809524e-05, 1.89833333)
_MANY_STEPS = (0.00016927, 0.45666666)
_MANY_TOKENS = 4300


def pipeline_mu(family: Family, config: Any, tokens: float, steps: int) -> float:
    """Return the shift that a family's pipeline asks of its scheduler.

    Args:
        family: whose pipeline.
        config: configuration of the scheduler.
        tokens: of the picture.
        steps: of the run.
    """
    if family.shift == "empirical":
        many = _MANY_STEPS[0] * tokens + _MANY_STEPS[1]
        if tokens > _MANY_TOKENS:
            return many
        few = _TEN_STEPS[0] * tokens + _TEN_STEPS[1]
        return many + (many - few) / 190 * (steps - 200)
    slope, offset = _line(config)
    return slope * tokens + offset


def _line(config: Any) -> tuple[float, float]:
    first, last = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (high - low) / (last - first)
    return slope, low - slope * first


def _tokens(family: Family, config: Any, mu: float) -> float:
    """Return the tokens for which a pipeline asks this shift, where they are many."""
    slope, offset = _MANY_STEPS if family.shift == "empirical" else _line(config)
    return (mu - offset) / slope


class ShiftedTimesteps:
    """Stands in the place of a scheduler's `set_timesteps` and gives it a shift of the rule's.

    Args:
        scheduler: whose `set_timesteps` it stands for.
        family: whose pipeline calls it.
        rule: "native" or "sqrt".
        native: tokens of a picture of native size.
    """

    def __init__(self, scheduler: Any, family: Family, rule: str, native: int) -> None:
        self.scheduler = scheduler
        self.family = family
        self.rule = rule
        self.native = native
        self.copied = False
        self.before: Callable[..., Any] | None = vars(scheduler).get("set_timesteps")
        # Pipelines look for `sigmas` among the parameters.
        self.__signature__ = inspect.signature(scheduler.set_timesteps)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        kind = type(self.scheduler)
        original = self.before or functools.partial(kind.set_timesteps, self.scheduler)
        if kwargs.get("mu") is not None and self.scheduler.config.use_dynamic_shifting:
            bound = inspect.signature(original).bind(*args, **kwargs).arguments
            steps = bound.get("num_inference_steps") or len(bound["sigmas"])
            kwargs["mu"] = self.mu(kwargs["mu"], int(steps))
        return original(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """What is copied with its scheduler belongs to no record: see `forget_copied`."""
        return vars(self) | {"before": None, "copied": True}

    def mu(self, asked: float, steps: int) -> float:
        """Return the shift in the place of the one that the pipeline asks."""
        config = self.scheduler.config
        native = pipeline_mu(self.family, config, self.native, steps)
        if asked <= native:
            return asked
        if self.rule == "native":
            return native
        tokens = max(_tokens(self.family, config, asked), float(self.native))
        return native + 0.5 * math.log(tokens / self.native)


@contextmanager
def time_shift(scheduler: Any, family: Family, rule: str, native_side: int) -> Iterator[None]:
    """Shift the schedules that a pipeline sets inside a `with` block by a rule.

    Schedules of native pictures and smaller ones stay as they are, and so do those of schedulers
    whose shift does not depend on the size.

    Args:
        scheduler: the pipeline's.
        family: of its transformer.
        rule: one of `hidiffusion.transformer.config.TIME_SHIFTS`.
        native_side: of the training pictures, in tokens.

    Raises:
        InvalidConfigError: the rule asks for what the scheduler cannot do.
    """
    if rule == "pipeline" or (rule == "native" and not _dynamic(scheduler)):
        yield
        return
    if not _dynamic(scheduler):
        raise InvalidConfigError(
            f"time_shift is {rule!r}, but {type(scheduler).__name__} has a shift that does not "
            "depend on the size; use native, or give the scheduler another shift"
        )
    hook = ShiftedTimesteps(scheduler, family, rule, native_side**2)
    scheduler.set_timesteps = hook
    try:
        yield
    finally:
        if hook.before is None:
            del scheduler.set_timesteps
        else:
            scheduler.set_timesteps = hook.before


def forget_copied(scheduler: Any) -> None:
    """Take back the shift that a scheduler has because it is a copy of one that was shifted."""
    hook = vars(scheduler).get("set_timesteps")
    if isinstance(hook, ShiftedTimesteps) and hook.copied:
        del scheduler.set_timesteps


def may_be_stepping(scheduler: Any) -> bool:
    """Tell whether a call of the model may belong to a run that this scheduler steps.

    It cannot where the scheduler has no schedule yet, or is through with it.
    """
    index = getattr(scheduler, "step_index", None)
    if index is None:
        return getattr(scheduler, "num_inference_steps", None) is not None
    return int(index) < len(scheduler.timesteps)


def _dynamic(scheduler: Any) -> bool:
    return bool(getattr(scheduler.config, "use_dynamic_shifting", False))
