"""The attempts that a pipeline process runs at one time: one, or the rows of a batch."""

import logging
import time
from collections.abc import Callable, Sequence

from service.channel import ChannelClosed, Message, Run
from service.domain.generations.generation import Generation
from service.records.attempts import Attempts
from service.settings import WorkerSettings
from service.supervisor.jobs.process import PipelineProcess
from service.supervisor.jobs.running import POLL_SECONDS, RunningAttempt
from service.supervisor.jobs.watchdog import Silences, Watchdog

_log = logging.getLogger(__name__)


class RunningBatch:
    """Some attempts, from `Run` to the moment the last event of each is in Redis.

    Each is cancelled, timed out and ended for itself. When the process dies, all are lost.

    Args:
        attempts: where events and signs of life go.
        process: the pipeline process, warm and idle.
        generations: as their attempts were begun; the rows of a batch, where there are several.
        settings: time limits.
        silences: how long attempts like these were silent.
        chores: what else the supervisor does meanwhile; called several times a second.
        drain_deadline: the moment on the monotonic clock to hand back at; None while not draining.
    """

    def __init__(
        self,
        attempts: Attempts,
        process: PipelineProcess,
        generations: Sequence[Generation],
        *,
        settings: WorkerSettings,
        silences: Silences,
        chores: Callable[[Message | None], None],
        drain_deadline: Callable[[], float | None],
    ) -> None:
        self._process = process
        self._chores = chores
        self._drain_deadline = drain_deadline
        self._watchdog = Watchdog(generations, silences, settings)
        self._rows = [
            RunningAttempt(
                attempts, process, generation, settings=settings, drain_deadline=drain_deadline
            )
            for generation in generations
        ]

    def run(self) -> bool:
        """Run all attempts to their end.

        Returns:
            Whether the pipeline process lives; when not, it is already buried.
        """
        alive, verdict = True, ""
        first, *mates = (row.traced for row in self._rows)
        try:
            self._process.send(Run(generation=first, mates=tuple(mates)))
            while not all(row.over for row in self._rows):
                message = self._process.receive(POLL_SECONDS)
                self._watchdog.hear(message)
                for row in self._rows:
                    row.hear(message)
                self._chores(message)
                for row in self._rows:
                    row.deliver()
                    row.look()
                if verdict := self._watchdog.verdict():
                    _log.error("%s; replacing it", verdict)
                    self._process.kill()
                    raise ChannelClosed(verdict)
        except ChannelClosed:
            alive = False
            death = verdict or self._process.bury()
            for row in self._rows:
                if not row.over:
                    row.conclude(death)
        self._deliver_the_rest()
        return alive

    def _deliver_the_rest(self) -> None:
        while left := sum(self._delivered(row) for row in self._rows):
            drain_at = self._drain_deadline()
            if drain_at is not None and time.monotonic() > drain_at:
                _log.error("leaving without handing in %d events", left)
                return
            time.sleep(POLL_SECONDS)
            self._chores(None)

    def _delivered(self, row: RunningAttempt) -> int:
        row.deliver()
        return row.undelivered
