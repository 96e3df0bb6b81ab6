"""What one U-Net call knows: its stage, its map sizes and its window indices.

The plan is made anew at the start of every call from the call's own arguments and the clock, and is
gone at its end. Hooks read it; nothing in the U-Net is changed.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from hidiffusion.clock import Announcement, Clock, Position, Run, as_number, locate
from hidiffusion.errors import (
    ConcurrentCallError,
    InvalidConfigError,
    MissingSchedulerError,
    UnannouncedRunWarning,
    UnknownTimestepError,
    UnplannedCallError,
)
from hidiffusion.unet.config import ResolvedConfig
from hidiffusion.unet.schedule import DIRECT, Level, Size, Stage, enlargement, level_sizes, stage
from hidiffusion.unet.windows import WindowedAttention, WindowGrid, window_indices
from hidiffusion.upstream import RUN_START


@dataclass(frozen=True)
class Plan:
    """What the hooks need during one U-Net call.

    Attributes:
        stage: the mechanisms that act.
        levels: map sizes of each level.
    """

    stage: Stage
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class WindowedBlock:
    """A self-attention with windows: its hooks, its level, and whether it is in the pooled part."""

    attention: WindowedAttention
    level: int
    inner: bool


class CallState:
    """The state that the hooks of one U-Net share.

    Attributes:
        resolved: the settings.
        clock: tells which step of which run a call is.
        given_scheduler: the one given for a U-Net without a pipeline.
        plan: of the call under way, or None.
    """

    def __init__(
        self, resolved: ResolvedConfig, blocks: Sequence[WindowedBlock], *, needs_position: bool
    ) -> None:
        self.resolved = resolved
        self.clock = Clock()
        self.plan: Plan | None = None
        self._blocks = tuple(blocks)
        self._needs_position = needs_position
        self.given_scheduler: Any = None
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._pipelines: list[weakref.ref[Any]] = []
        self._lock = threading.Lock()
        self._caller: threading.Thread | None = None
        self._bypassed = False

    def __getstate__(self) -> dict[str, Any]:
        """Keep the scheduler, drop what belongs to a call or to a pipeline."""
        dropped = ("_pipelines", "_lock", "_caller", "_bypassed")
        state = {name: each for name, each in self.__dict__.items() if name not in dropped}
        return state | {"plan": None, "given_scheduler": next(self._schedulers(), None)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_afresh()

    def follow(self, pipeline: Any) -> None:
        """Take the scheduler from a pipeline, also after it is exchanged there."""
        others = [link for link in self._pipelines if link() not in (None, pipeline)]
        self._pipelines = [weakref.ref(pipeline), *others]

    def leave(self, pipeline: Any) -> None:
        """Forget a pipeline."""
        self._pipelines = [link for link in self._pipelines if link() not in (None, pipeline)]

    def use(self, scheduler: Any) -> None:
        """Take this scheduler where no pipeline has one."""
        self.given_scheduler = scheduler

    def _schedulers(self) -> Iterator[Any]:
        for link in self._pipelines:
            pipeline = link()
            if pipeline is not None:
                yield pipeline.scheduler
        if self.given_scheduler is not None:
            yield self.given_scheduler

    @contextmanager
    def bypassed(self) -> Iterator[None]:
        """Leave the U-Net's calls inside a `with` block as they are."""
        before, self._bypassed = self._bypassed, True
        try:
            yield
        finally:
            self._bypassed = before

    def announce(self, pipeline: Any, announcement: Announcement) -> None:
        """Note that a pipeline begins a run."""
        self.follow(pipeline)
        self.clock.announce(pipeline.scheduler.timesteps, announcement)

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
            ConcurrentCallError: another call is under way.
            MissingSchedulerError, UnknownTimestepError: nothing tells the position of the call.
        """
        self._take()
        size = Size(*sample.shape[-2:])
        if self._bypassed or enlargement(size, self.resolved.native_size) <= 1:
            active, time, step, run = DIRECT, 0.0, 0, None
        else:
            time, position, run = self._position(timestep, controlled=controlled)
            step = position.step
            told = None if run is None else run.announcement
            controlled = controlled and not (told is not None and told.from_image)
            active = stage(self.resolved, size, position, controlled=controlled)
        levels = level_sizes(self.resolved, size, active)
        self._cut_windows(sample, active, levels, time=time, step=step, run=run)
        self.plan = Plan(active, levels)

    def _take(self) -> None:
        """Let one thread call; a call that ended without a word, as by Ctrl+C, is over."""
        with self._lock:
            caller, this = self._caller, threading.current_thread()
            if caller is not None and caller is not this and caller.is_alive():
                raise ConcurrentCallError(
                    "the U-Net is called while a call of it is under way in the thread "
                    f"{caller.name!r}; one U-Net serves one call at a time: give each thread a "
                    "U-Net of its own, or let them take turns"
                )
            self._caller = this

    def control_active(self, size: Size, timestep: Any, pipeline: object) -> bool | None:
        """Tell whether the U-Net will use what a ControlNet answers at this timestep.

        Returns:
            None where the call is none of this pipeline's run.
        """
        run = self.clock.announced_by(timestep, pipeline)
        if run is None:
            return None
        if self._bypassed:
            return True
        _, position, _ = self._position(timestep, controlled=True)
        return stage(self.resolved, size, position).control

    def finish(self) -> None:
        """Forget the call, if it is this thread's."""
        if self._caller is not threading.current_thread():
            return
        self.plan = None
        for block in self._blocks:
            block.attention.forget()
        self._caller = None

    def _position(self, timestep: Any, *, controlled: bool) -> tuple[float, Position, Run | None]:
        if self.resolved.timesteps is not None:
            time = as_number(timestep)
            return time, locate(self.resolved.timesteps, time), None
        tables = [getattr(scheduler, "timesteps", None) for scheduler in self._schedulers()]
        try:
            tick = self.clock.at(timestep, tables)
        except UnknownTimestepError as unknown:
            if not self._needs_position:
                return as_number(timestep), Position(0, 1), None
            if any(table is not None and len(table) for table in tables):
                raise
            raise MissingSchedulerError(
                "the U-Net has no scheduler with a table of timesteps; apply to a pipeline, or "
                "give scheduler= or HiDiffusionConfig(timesteps=...)"
            ) from unknown
        self._tell_of(tick.run, controlled=controlled)
        return tick.timestep, tick.position, tick.run

    def _tell_of(self, run: Run, *, controlled: bool) -> None:
        """Warn, once a run, of one that no pipeline announced, where that leaves something open."""
        pipelines = [link() for link in self._pipelines]
        if run.announcement is not None or run.told or not any(pipelines):
            return
        announces = any(hasattr(type(each), RUN_START) for each in pipelines)
        if not announces and not controlled and self.resolved.seed is not None:
            return
        run.told = True
        warnings.warn(
            "HiDiffusion acts in a run of a pipeline that it is not applied to: its generator's "
            "seed and its end are unknown, and its ControlNets run at full size; call "
            "apply_hidiffusion(second) on that pipeline too, or give seed= for one, such as a "
            "ModularPipeline, that tells nothing of its runs",
            UnannouncedRunWarning,
            stacklevel=2,
        )

    def _seeds(self, batch: int, run: Run | None) -> tuple[int, ...]:
        seeds = self.resolved.seed
        if seeds is None and run is not None and run.announcement is not None:
            seeds = run.announcement.seeds
        seeds = (seeds,) if isinstance(seeds, int) else seeds or (0,)
        if batch % len(seeds):
            raise InvalidConfigError(
                f"there are {len(seeds)} seeds for a batch of {batch}; give one, or one a sample"
            )
        return seeds

    def _cut_windows(
        self,
        sample: torch.Tensor,
        active: Stage,
        levels: Sequence[Level],
        *,
        time: float,
        step: int,
        run: Run | None,
    ) -> None:
        batch = sample.shape[0]
        seeds = self._seeds(batch, run) if active.windows and self._blocks else ()
        for index, block in enumerate(self._blocks):
            if block.level not in active.windows:
                block.attention.plan(None)
                continue
            size = levels[block.level].inner if block.inner else levels[block.level].full
            shifts = tuple(
                self.resolved.shifts(seed=seed, block=index, step=step, timestep=time)
                for seed in seeds
            )
            grid = self._grid(size, block.level)
            found = window_indices(size, grid, shifts, batch=batch, device=sample.device)
            block.attention.plan(found.alias())

    def _grid(self, size: Size, level: int) -> WindowGrid:
        if self.resolved.window_grid != "native":
            return WindowGrid(self.resolved.window_grid, self.resolved.window_grid)
        native = max(1, self.resolved.native_size >> level)
        return WindowGrid(-(-size.height // native), -(-size.width // native))
