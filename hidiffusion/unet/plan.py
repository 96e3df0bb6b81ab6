"""What one U-Net call knows: its stage, its map sizes and its window indices.

The plan is made anew at the start of every call from the call's own arguments, the scheduler and
the run it belongs to, and is gone at its end. Hooks read it; nothing in the U-Net is changed.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hidiffusion.clock import Position, locate
from hidiffusion.errors import InvalidConfigError, MissingSchedulerError, UnplannedCallError
from hidiffusion.unet.config import ResolvedConfig
from hidiffusion.unet.schedule import Level, Size, Stage, level_sizes, stage
from hidiffusion.unet.windows import Grid, Windows, windows
from hidiffusion.upstream import begin_index, run_length, starts_from_image, table_index


@dataclass(frozen=True)
class Plan:
    """Everything the hooks need during one U-Net call.

    Attributes:
        stage: the mechanisms that act.
        levels: map sizes of each level.
        windows: for each windowed block in order, its partition; empty where windows do not act.
    """

    stage: Stage
    levels: tuple[Level, ...]
    windows: tuple[Windows, ...]


class Run:
    """One call of a pipeline: who runs, with which seeds, over which table of timesteps."""

    def __init__(self, pipeline: Any, generator: object) -> None:
        self.pipeline = weakref.ref(pipeline)
        self.table: torch.Tensor = pipeline.scheduler.timesteps
        self.seeds = _seeds(generator)
        self.from_image = starts_from_image(pipeline)
        self.first: int | None = None

    @property
    def current(self) -> bool:
        """Whether the scheduler still holds the table that this run began with."""
        pipeline = self.pipeline()
        return pipeline is not None and pipeline.scheduler.timesteps is self.table

    def bounds(self, scheduler: Any, index: int) -> tuple[int, int]:
        """Return where the run begins and ends in the table, for a call at entry ``index``.

        A scheduler without a begin index leaves the first call of the run to tell the begin.
        """
        if self.first is None:
            self.first = index
        begin = begin_index(scheduler)
        begin = self.first if begin is None else begin
        length = run_length(self.pipeline())
        end = len(self.table) if length is None else begin + length
        return begin, min(end, len(self.table))


def _seeds(generator: object) -> tuple[int, ...] | None:
    generators = generator if isinstance(generator, list | tuple) else [generator]
    seeds = tuple(g.initial_seed() for g in generators if isinstance(g, torch.Generator))
    return seeds or None


@dataclass(frozen=True)
class WindowPlace:
    """A windowed block: its level, and whether it lies between pooling and unpooling."""

    level: int
    inner: bool


class CallState:
    """The state that the hooks of one U-Net share."""

    def __init__(
        self, resolved: ResolvedConfig, places: Sequence[WindowPlace], *, needs_position: bool
    ) -> None:
        self.resolved = resolved
        self.places = tuple(places)
        self.needs_position = needs_position
        self.plan: Plan | None = None
        self._reset_links()

    def _reset_links(self) -> None:
        self._scheduler: Any = None
        self._owner: weakref.ref[Any] | None = None
        self._run: Run | None = None
        self._table: tuple[torch.Tensor, int, tuple[float, ...]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Keep the scheduler, drop what belongs to a call or to a pipeline."""
        state = self.__dict__.copy()
        state.update(plan=None, _owner=None, _run=None, _table=None, _scheduler=self.scheduler)
        return state

    @property
    def scheduler(self) -> Any:
        """The scheduler of the running pipeline, else of the one applied to, else the given one."""
        for link in (self._run.pipeline if self._run else None, self._owner):
            pipeline = link() if link is not None else None
            if pipeline is not None:
                return pipeline.scheduler
        return self._scheduler

    def follow(self, pipeline: Any) -> None:
        """Take the scheduler from a pipeline, also after it is exchanged there."""
        self._owner = weakref.ref(pipeline)

    def use(self, scheduler: Any) -> None:
        """Take this scheduler."""
        self._scheduler = scheduler

    def begin(self, pipeline: Any, generator: object) -> None:
        """Note that a pipeline starts a run."""
        self._run = Run(pipeline, generator)

    def required(self) -> Plan:
        """Return the plan of the call that is under way.

        Raises:
            UnplannedCallError: there is none.
        """
        if self.plan is None:
            raise UnplannedCallError(
                "a block of a patched U-Net was called by itself; call the U-Net, or "
                "remove_hidiffusion first"
            )
        return self.plan

    def start(self, sample: torch.Tensor, timestep: Any, *, controlled: bool) -> None:
        """Plan a U-Net call.

        Args:
            sample: latents [B, C, h, w].
            timestep: as given to the U-Net, a number or a tensor; of a batch the first counts.
            controlled: whether a ControlNet takes part.

        Raises:
            MissingSchedulerError: nothing tells the position of the call.
        """
        size = Size(*sample.shape[-2:])
        time, position = self._position(timestep)
        run = self._current_run()
        controlled = controlled and not (run is not None and run.from_image)
        active = stage(self.resolved, size, position, controlled=controlled)
        levels = level_sizes(self.resolved, size, active)
        partitions: tuple[Windows, ...] = ()
        if active.windows and self.places:
            partitions = self._windows(sample, levels, time, position.step)
        self.plan = Plan(active, levels, partitions)

    def hears_control(self, sample: torch.Tensor, timestep: Any) -> bool:
        """Tell whether the U-Net call on this sample, at this timestep, will use a ControlNet."""
        _, position = self._position(timestep)
        return stage(self.resolved, Size(*sample.shape[-2:]), position).control

    def finish(self) -> None:
        """Forget the call."""
        self.plan = None

    def _position(self, timestep: Any) -> tuple[float, Position]:
        table = self.resolved.timesteps
        if table is not None:
            time = _number(timestep)
            return time, locate(table, time)
        scheduler = self.scheduler
        tensor = getattr(scheduler, "timesteps", None)
        if tensor is None or not len(tensor):
            if self.needs_position:
                raise MissingSchedulerError(
                    f"the scheduler is {scheduler!r}, without a table of timesteps; apply to a "
                    "pipeline, or give scheduler= or HiDiffusionConfig(timesteps=...)"
                )
            return _number(timestep), Position(0, 1)
        return self._position_in(scheduler, tensor, timestep)

    def _position_in(
        self, scheduler: Any, tensor: torch.Tensor, timestep: Any
    ) -> tuple[float, Position]:
        table = self._host(tensor)
        entry = table_index(timestep, tensor) if isinstance(timestep, torch.Tensor) else None
        time = _number(timestep) if entry is None else table[entry]
        run = self._current_run()
        if run is None:
            begin, end = begin_index(scheduler) or 0, len(table)
        else:
            begin, end = run.bounds(scheduler, locate(table, time).step if entry is None else entry)
        return time, locate(table[begin:end], time)

    def _host(self, tensor: torch.Tensor) -> tuple[float, ...]:
        """Copy the table to the host once for each table, not once for each call."""
        known = self._table
        if known is None or known[0] is not tensor or known[1] != tensor._version:
            values = tuple(float(value) for value in tensor.tolist())
            self._table = known = (tensor, tensor._version, values)
        return known[2]

    def _current_run(self) -> Run | None:
        return self._run if self._run is not None and self._run.current else None

    def _seeds(self, batch: int) -> tuple[int, ...]:
        seeds = self.resolved.seed
        if seeds is None:
            run = self._current_run()
            seeds = run.seeds if run is not None else None
        seeds = (seeds,) if isinstance(seeds, int) else seeds or (0,)
        if batch % len(seeds):
            raise InvalidConfigError(
                f"there are {len(seeds)} seeds for a batch of {batch}; give one, or one a sample"
            )
        return seeds

    def _windows(
        self, sample: torch.Tensor, levels: Sequence[Level], time: float, step: int
    ) -> tuple[Windows, ...]:
        batch = sample.shape[0]
        seeds = self._seeds(batch)
        found = []
        for block, place in enumerate(self.places):
            size = levels[place.level].inner if place.inner else levels[place.level].full
            shifts = tuple(
                self.resolved.shifts(seed=seed, block=block, step=step, timestep=time)
                for seed in seeds
            )
            grid = self._grid(size, place.level)
            partition = windows(size, grid, shifts, batch=batch, device=sample.device)
            found.append(partition.alias())
        return tuple(found)

    def _grid(self, size: Size, level: int) -> Grid:
        if self.resolved.window_grid != "native":
            return Grid(self.resolved.window_grid, self.resolved.window_grid)
        native = max(1, self.resolved.native_size >> level)
        return Grid(-(-size.height // native), -(-size.width // native))


class PlanCall:
    """Forward pre-hook of the U-Net: plan the call.

    A compiled U-Net runs the hooks of its root outside the graph; the disabling keeps them there,
    so the graph reads the plan as data.
    """

    def __init__(self, state: CallState) -> None:
        self.state = state

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del module
        sample = args[0] if args else kwargs["sample"]
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        controlled = kwargs.get("mid_block_additional_residual") is not None
        self.state.start(sample, timestep, controlled=controlled)


class ForgetCall:
    """Forward hook of the U-Net, also after an exception: forget the plan."""

    def __init__(self, state: CallState) -> None:
        self.state = state

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        del module, args, output
        self.state.finish()


def _number(timestep: Any) -> float:
    """Return a timestep as a number; on an accelerator this waits for it."""
    if isinstance(timestep, torch.Tensor):
        return float(timestep.flatten()[0].item())
    return float(timestep)
