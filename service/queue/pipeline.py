"""Keep one pipeline process alive and know how warm it is."""

import logging
import time
from collections.abc import Mapping, Sequence

from service.queue.channel import ChannelClosed, Message, Warm
from service.queue.process import PipelineProcess

_log = logging.getLogger(__name__)

#: A process that dies before it is warm is started again after 1, 2, 4 ... seconds, at most this.
LONGEST_START_DELAY = 30.0


class Pipeline:
    """The pipeline process of one supervisor, across its deaths.

    Args:
        command: what starts a process; it is given `--channel-fd N` in the end.
        environment: variables for it on top of this process's own.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._process: PipelineProcess | None = None
        self._warm: Warm | None = None
        self._loads_before = 0
        self._false_starts = 0
        self._start_at = 0.0

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
        return self._warm is not None

    @property
    def models(self) -> tuple[str, ...]:
        """The models it keeps warm."""
        return () if self._warm is None else self._warm.models

    @property
    def loads(self) -> int:
        """Pipelines loaded so far, by this process and those before it."""
        return self._loads_before + (0 if self._warm is None else self._warm.loads)

    def tend(self, seconds: float) -> None:
        """Start a process if there is none; else hear it, for `seconds` while it is not warm."""
        if self._process is None:
            self._start(seconds)
            return
        try:
            self.note(self._process.receive(0.0 if self.warm else seconds))
        except ChannelClosed:
            _log.error("%s", self._process.bury())
            self.discard()

    def note(self, message: Message | None) -> None:
        """Learn from a message how warm the process is."""
        if isinstance(message, Warm):
            self._warm = message
            self._false_starts = 0
            _log.info("warm for %s after %d loads", ", ".join(message.models), message.loads)

    def discard(self) -> None:
        """Be rid of a process that is dead or not to be trusted; `tend` starts another."""
        if self._warm is None:
            self._start_at = time.monotonic() + min(2.0**self._false_starts, LONGEST_START_DELAY)
            self._false_starts += 1
        self._loads_before = self.loads
        self.process.kill()
        self._process = self._warm = None

    def stop(self) -> None:
        """Ask the process to exit, and see to it."""
        if self._process is not None:
            self._process.stop()
            self._process = self._warm = None

    def _start(self, seconds: float) -> None:
        if time.monotonic() < self._start_at:
            time.sleep(seconds)
        else:
            self._process = PipelineProcess(self._command, self._environment)
