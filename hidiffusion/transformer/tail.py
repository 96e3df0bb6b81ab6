"""The last steps of a schedule, from clean latents: image to image without a pipeline for it.

diffusers has siblings that start from a picture for some transformers and not for others. All
pipelines take latents to start from, and all set their schedule once, so the schedule is cut there.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor


class Table(NamedTuple):
    """The schedule of a run.

    Attributes:
        timesteps: one-dimensional, one a call of the model.
        sigmas: share of noise at each, and at the end.
    """

    timesteps: Tensor
    sigmas: Tensor

    @classmethod
    def of(cls, scheduler: Any) -> Table:
        """Copy the schedule that a scheduler has been set to."""
        return cls(scheduler.timesteps.clone(), scheduler.sigmas.clone())

    def last(self, calls: int) -> Table:
        """Return the schedule of the last calls of the model."""
        return Table(self.timesteps[-calls:].clone(), self.sigmas[-calls - 1 :].clone())

    def noised(self, clean: Tensor, noise: Tensor) -> Tensor:
        """Return what the first call starts from (flow matching: (1 - sigma) x0 + sigma noise)."""
        sigma = float(self.sigmas[0])
        return (1 - sigma) * clean + sigma * noise


class _Known(BaseException):
    """Ends a pipeline's call once its schedule is set; no `except Exception` is to stop it."""


class _SetTimesteps:
    """Stands in the place of `scheduler.set_timesteps` and says what becomes of the schedule."""

    def __init__(self, scheduler: Any, then: Callable[[], None]) -> None:
        self.before: Callable[..., Any] | None = vars(scheduler).get("set_timesteps")
        self._original = self.before or functools.partial(type(scheduler).set_timesteps, scheduler)
        self._then = then
        # Pipelines look for `sigmas` among the parameters.
        self.__signature__ = inspect.signature(scheduler.set_timesteps)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self._original(*args, **kwargs)
        self._then()


@contextmanager
def _hooked(scheduler: Any, then: Callable[[], None]) -> Iterator[None]:
    hook = _SetTimesteps(scheduler, then)
    scheduler.set_timesteps = hook
    try:
        yield
    finally:
        del scheduler.set_timesteps
        if hook.before is not None:
            scheduler.set_timesteps = hook.before


@contextmanager
def scheduled(scheduler: Any, table: Table) -> Iterator[None]:
    """Run by this schedule inside a `with` block, whatever schedule a pipeline sets."""

    def replace() -> None:
        device = scheduler.timesteps.device
        scheduler.timesteps = table.timesteps.to(device)
        scheduler.sigmas = table.sigmas.to(scheduler.sigmas.device)

    with _hooked(scheduler, replace):
        yield


def table_of(pipe: Any, arguments: dict[str, Any]) -> Table:
    """Return the schedule that a pipeline sets for a call, without drawing anything.

    Args:
        pipe: a diffusers pipeline.
        arguments: of the call; it is begun and ended once the schedule is set.
    """

    def stop() -> None:
        raise _Known

    try:
        with _hooked(pipe.scheduler, stop):
            pipe(**arguments)
    except _Known:
        pipe.maybe_free_model_hooks()
    return Table.of(pipe.scheduler)
