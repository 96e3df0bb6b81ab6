"""Keep one pipeline process alive and know how warm it is."""

import logging
import time
from collections.abc import Mapping, Sequence

from service.channel import Alive, ChannelClosed, Message, Warm
from service.supervisor.jobs.process import PipelineProcess

_log = logging.getLogger(__name__)

#: A process that dies before it is warm is started again after 1, 2, 4 ... seconds, at most this.
LONGEST_START_DELAY = 30.0


#: What is known of a process that has said nothing yet.
_COLD = Warm(models=(), loads=0)


class Pipeline:
    """The pipeline process of one supervisor, across its deaths.

    Args:
        command: what starts a process; it is given `--channel-fd N` in the end.
        environment: variables for it on top of this process's own.
        warm_up_seconds: a process that is not warm after this long is replaced.
        stall_seconds: so is one without any sign of life for this long, since its first.

    Attributes:
        trouble: how the last process ended that never got warm; empty once one did.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        warm_up_seconds: float,
        stall_seconds: float,
    ) -> None:
        self._command = command
        self._environment = environment
        self._warm_up_seconds = warm_up_seconds
        self._stall_seconds = stall_seconds
        self._process: PipelineProcess | None = None
        self._report = _COLD
        self._loads_before = self._evictions_before = 0
        self._false_starts = 0
        self._start_at = 0.0
        self._warm_by = 0.0
        self._heard_at: float | None = None
        self.trouble = ""

    @property
    def process(self) -> PipelineProcess:
        """The process; there is one whenever `warm`."""
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """Process id, 0 when there is none."""
        return 0 if self._process is None else self._process.pid

    @property
    def warm(self) -> bool:
        """Whether it is ready for work."""
        return self._report is not _COLD

    @property
    def models(self) -> tuple[str, ...]:
        """The models it keeps warm."""
        return self._report.models

    @property
    def capacities(self) -> dict[str, int]:
        """Most pixels its device has memory for, by model, where that is known."""
        return self._report.capacities

    @property
    def loads(self) -> int:
        """Pipelines loaded so far, by this process and those before it."""
        return self._loads_before + self._report.loads

    @property
    def evictions(self) -> int:
        """Pipelines dropped to make room so far, by this process and those before it."""
        return self._evictions_before + self._report.evictions

    def tend(self, seconds: float) -> None:
        """Start a process if there is none; else hear it, for `seconds` while it is not warm."""
        if self._process is None:
            self._start(seconds)
            return
        try:
            self.note(self._process.receive(0.0 if self.warm else seconds))
        except ChannelClosed:
            self._give_up(self._process.bury())
        else:
            if not self.warm and time.monotonic() > self._warm_by:
                self._give_up(f"not ready within {self._warm_up_seconds:g} s")
            elif self._silent:
                self._give_up(f"no sign of life for {self._stall_seconds:g} s")

    @property
    def _silent(self) -> bool:
        """Whether it should have said that it lives, as it does from its start."""
        heard_at = self._heard_at
        return heard_at is not None and time.monotonic() - heard_at > self._stall_seconds

    def note(self, message: Message | None) -> None:
        """Learn from a message that the process lives, and how warm it is."""
        if isinstance(message, Alive):
            self._heard_at = time.monotonic()
        if isinstance(message, Warm):
            self._report = message
            self._false_starts = 0
            self.trouble = ""
            _log.info("warm for %s after %d loads", ", ".join(message.models), message.loads)

    def discard(self) -> None:
        """Be rid of a process that is dead or not to be trusted; `tend` starts another."""
        if not self.warm:
            self._start_at = time.monotonic() + min(2.0**self._false_starts, LONGEST_START_DELAY)
            self._false_starts += 1
        self._loads_before, self._evictions_before = self.loads, self.evictions
        self.process.kill()
        self._process, self._report = None, _COLD

    def stop(self) -> None:
        """Ask the process to exit, and see to it."""
        if self._process is not None:
            self._process.stop()
            self._process, self._report = None, _COLD

    def _give_up(self, reason: str) -> None:
        _log.error("%s", reason)
        if not self.warm:
            self.trouble = f"start {self._false_starts + 1} failed: {reason}"
        self.discard()

    def _start(self, seconds: float) -> None:
        if time.monotonic() < self._start_at:
            time.sleep(seconds)
        else:
            self._warm_by = time.monotonic() + self._warm_up_seconds
            self._heard_at = None
            self._process = PipelineProcess(self._command, self._environment)
