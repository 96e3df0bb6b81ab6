"""Which step of which run a call of a model is, from the call alone.

A pipeline iterates over a tensor of timesteps, so the timestep that it gives to its model is a view
whose storage *is* the table of the run, whichever pipeline or scheduler runs: table and entry are
known without waiting for a device. A new table is a new run, and the first entry seen is its begin,
so image to image and split schedules need no care. A timestep that is no view of a table, such as a
plain number, is looked up in the scheduler's, and the whole table is the run. A model that is given
something computed from the timestep, as diffusion transformers are, is told by the scheduler that
steps its run. Nothing is counted, so a run that is cancelled or fails leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from hidiffusion.errors import UnknownTimestepError

#: Runs that a clock remembers, so that pipelines may take turns on one model.
_RUNS = 8

#: How far a number may lie from an entry of the table, as a share of it: half precision rounds so.
_ROUNDING = 2e-3


class Position(NamedTuple):
    """Where a call stands: its step, from 0, and the number of steps of the run."""

    step: int
    total: int


class Tick(NamedTuple):
    """What the clock tells of a call.

    Attributes:
        run: the run that it belongs to.
        position: where it stands in the run; calls at one timestep share the first one's.
        timestep: as a number.
    """

    run: Run
    position: Position
    timestep: float


def locate(timesteps: Sequence[float], timestep: float) -> Position:
    """Find a timestep in the table of its run.

    Args:
        timesteps: the run's timesteps, in order; repeated where a solver calls the model twice.
        timestep: the timestep given to the model.

    Returns:
        The first position with the nearest timestep, and the length of the table.
    """
    distances = [abs(entry - timestep) for entry in timesteps]
    return Position(distances.index(min(distances)), len(timesteps))


@dataclass(frozen=True)
class Announcement:
    """What a pipeline tells of the run that it begins.

    Attributes:
        pipeline: a name for it that no other living pipeline has.
        seeds: those of the generators given to it, or None where there are none.
        from_image: whether it starts from a picture.
        length: returns the calls of the run as far as the pipeline knows, or None.
    """

    pipeline: object
    seeds: tuple[int, ...] | None
    from_image: bool
    length: Callable[[], int | None]


class Run:
    """One walk over a table of timesteps.

    Attributes:
        table: the timesteps, one-dimensional; held, so that its memory is not used again meanwhile.
        timesteps: the same as numbers.
        begin: entry of the first call, or None before it.
        announcement: what the pipeline told that began it, or None where none did.
        told: whether its user was told that none did.
    """

    def __init__(self, table: Tensor, announcement: Announcement | None = None) -> None:
        self.table = table
        self.timesteps = tuple(float(entry) for entry in table.tolist())
        self.begin: int | None = None
        self.announcement = announcement
        self.told = False
        self._version = _version(table)

    def has(self, timestep: Any) -> bool:
        """Tell whether a timestep is a view of this run's table."""
        return isinstance(timestep, Tensor) and _same_storage(timestep, self.table)

    def walks(self, table: Tensor) -> bool:
        """Tell whether this is a run over a table, as it is now."""
        return _same_storage(table, self.table) and _version(table) == self._version

    def entry(self, timestep: Tensor) -> int | None:
        """Return the entry that a timestep is a view of, or None."""
        index = int(timestep.storage_offset() - self.table.storage_offset())
        return index if 0 <= index < len(self.timesteps) else None

    def tick(self, entry: int) -> Tick:
        """Return where the call at this entry stands."""
        if self.begin is None or entry < self.begin:
            self.begin = entry
        length = None if self.announcement is None else self.announcement.length()
        end = len(self.timesteps) if length is None else self.begin + length
        walked = self.timesteps[self.begin : max(end, entry + 1)]
        return Tick(self, locate(walked, self.timesteps[entry]), self.timesteps[entry])


class Clock:
    """Tells where calls stand; one for each model or scheduler that is watched."""

    def __init__(self) -> None:
        self._runs: list[Run] = []

    def __reduce__(self) -> tuple[type[Clock], tuple[()]]:
        """A copied or stored clock starts afresh: runs belong to the pipelines that run."""
        return Clock, ()

    def announce(self, table: Tensor, announcement: Announcement) -> None:
        """Note that a pipeline begins a run over a table."""
        self._runs = [run for run in self._runs if not run.walks(table)]
        self._remember(Run(table, announcement))

    def announced_by(self, timestep: Any, pipeline: object) -> Run | None:
        """Return the run that a timestep belongs to, if this pipeline announced it."""
        for run in self._runs:
            told = run.announcement
            if told is not None and told.pipeline is pipeline and run.has(timestep):
                return run
        return None

    def at(self, timestep: Any, tables: Iterable[Any] = ()) -> Tick:
        """Tell where a call stands.

        Args:
            timestep: as given to the model: a tensor, of which the first entry counts, or a number.
            tables: the tables of schedulers that may run the model, the likeliest first.

        Raises:
            UnknownTimestepError: it is no view of a table and in none of these.
        """
        known = [table for table in tables if isinstance(table, Tensor) and len(table)]
        if isinstance(timestep, Tensor) and _is_entry(timestep):
            run = self._run_of(timestep, known)
            entry = run.entry(timestep)
            if entry is not None:
                return self._remember(run).tick(entry)
        return self._looked_up(as_number(timestep), known)

    def of_step(self, scheduler: Any) -> Tick:
        """Tell where a call stands by the scheduler that steps its run.

        For models that are given something computed from the timestep, such as a thousandth of it
        in half precision: that is no view, and too coarse to be looked up.

        Args:
            scheduler: a diffusers scheduler whose timesteps are set.

        Raises:
            UnknownTimestepError: it does not keep the index of its step.
        """
        if not hasattr(scheduler, "step_index"):
            raise UnknownTimestepError(
                f"{type(scheduler).__name__} does not tell the index of its step, so the place of "
                "a call in the run is unknown; use one that does, such as "
                "FlowMatchEulerDiscreteScheduler"
            )
        table = scheduler.timesteps
        run = next((run for run in self._runs if run.walks(table)), None) or Run(table)
        run.begin = getattr(scheduler, "begin_index", None) or 0
        # Schedulers set their index in the first `step`, so the first call finds none.
        entry = run.begin if scheduler.step_index is None else int(scheduler.step_index)
        return self._remember(run).tick(min(entry, len(run.timesteps) - 1))

    def _run_of(self, timestep: Tensor, known: Sequence[Tensor]) -> Run:
        for run in self._runs:
            if run.has(timestep) and run.walks(run.table):
                return run
        # A scheduler's table may be a part of its storage; what no scheduler has is all table.
        size = timestep.untyped_storage().nbytes() // timestep.element_size()
        whole = timestep.as_strided((size,), (1,), 0)
        table = next((each for each in known if _same_storage(timestep, each)), whole)
        return Run(table)

    def _looked_up(self, timestep: float, known: Sequence[Tensor]) -> Tick:
        for table in known:
            run = next((run for run in self._runs if run.announcement and run.walks(table)), None)
            if run is None:
                # Nobody iterates here, so any entry may come first: the table is the run.
                run = Run(table)
                run.begin, run.told = 0, True
            entry = locate(run.timesteps, timestep).step
            if abs(run.timesteps[entry] - timestep) <= _ROUNDING * max(1.0, abs(timestep)):
                return run.tick(entry)
        raise UnknownTimestepError(
            f"timestep is {timestep:g}, which the scheduler's table of timesteps does not have, so "
            "its place in the run is unknown; call apply_hidiffusion(second) on the pipeline that "
            "runs, or give scheduler= or HiDiffusionConfig(timesteps=...)"
        )

    def _remember(self, run: Run) -> Run:
        self._runs = [run, *(other for other in self._runs if other is not run)][:_RUNS]
        return run


def as_number(timestep: Any) -> float:
    """Return a timestep as a number; on an accelerator this waits for it."""
    if isinstance(timestep, Tensor):
        return float(timestep.flatten()[0].item())
    return float(timestep)


def _is_entry(timestep: Tensor) -> bool:
    """Whether it is one element, also expanded over a batch, of a longer tensor."""
    one = timestep.numel() == 1 or not any(timestep.stride())
    return one and timestep.untyped_storage().nbytes() > timestep.element_size()


def _same_storage(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _version(table: Tensor) -> int:
    """How often a tensor was written to; tensors made in inference mode do not say."""
    return 0 if table.is_inference() else int(table._version)
