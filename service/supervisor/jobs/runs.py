"""All that a pipeline process works at: what it draws, and what it still encodes and stores."""

import logging
import time
from collections.abc import Callable, Sequence

from service.channel import ChannelClosed, Message
from service.domain.generations.generation import Generation
from service.records.attempts import Attempts
from service.settings import WorkerSettings
from service.supervisor.jobs.pipeline import Pipeline
from service.supervisor.jobs.running import POLL_SECONDS
from service.supervisor.jobs.together import RunningBatch
from service.supervisor.jobs.watchdog import Silences

_log = logging.getLogger(__name__)


class Runs:
    """The batches of one pipeline process: at most two, of which one is drawn already.

    A picture that is drawn needs no device while it is encoded and stored, which takes as long as
    some steps; so the next one is begun meanwhile. What dies with the process is lost together,
    so only first attempts overlap: one that always crashes takes another down once.

    Args:
        attempts: where events and signs of life go.
        pipeline: the process, across its deaths.
        settings: time limits.
        chores: what else the supervisor does meanwhile; called several times a second.
        drain_deadline: the moment on the monotonic clock to hand back at; None while not draining.
        ended: told of each generation whose attempt is over, its last event in Redis.
    """

    def __init__(
        self,
        attempts: Attempts,
        pipeline: Pipeline,
        *,
        settings: WorkerSettings,
        chores: Callable[[Message | None], None],
        drain_deadline: Callable[[], float | None],
        ended: Callable[[Generation], None],
    ) -> None:
        self._attempts = attempts
        self._pipeline = pipeline
        self._settings = settings
        self._silences = Silences(settings.stall_seconds, settings.warm_up_seconds)
        self._chores = chores
        self._drain_deadline = drain_deadline
        self._ended = ended
        self._batches: list[RunningBatch] = []

    @property
    def busy(self) -> bool:
        """Whether anything runs."""
        return bool(self._batches)

    @property
    def free(self) -> bool:
        """Whether another batch may begin: nothing runs, or first attempts that are drawn."""
        running = [batch for batch in self._batches if not batch.over]
        return not running or (len(running) == 1 and running[0].drawn and running[0].first_attempts)

    def begin(self, generations: Sequence[Generation]) -> None:
        """Begin a batch on the process, which is warm and `free`."""
        batch = RunningBatch(
            self._attempts,
            self._pipeline.process,
            generations,
            settings=self._settings,
            silences=self._silences,
            drain_deadline=self._drain_deadline,
        )
        self._batches.append(batch)
        try:
            batch.begin()
        except ChannelClosed:
            self._bury()

    def tend(self) -> None:
        """Hear the process once, and do all that is due."""
        try:
            message = self._pipeline.process.receive(POLL_SECONDS)
            for batch in self._batches:
                batch.hear(message)
            self._chores(message)
            for batch in self._batches:
                batch.look(alone=len(self._batches) == 1)
        except ChannelClosed:
            self._bury()
        else:
            self._judge()
        for batch in [batch for batch in self._batches if batch.over and not batch.undelivered]:
            self._let_go(batch)

    def finish(self) -> None:
        """Return when nothing runs any more, or only Redis is waited for and the time is up."""
        while self.busy and not (self._late and all(batch.over for batch in self._batches)):
            self.tend()
        for batch in [*self._batches]:
            self._let_go(batch)

    @property
    def _late(self) -> bool:
        drain_at = self._drain_deadline()
        return drain_at is not None and time.monotonic() > drain_at

    def _judge(self) -> None:
        """Replace a process that hangs. The older batch is judged: the other may wait for it."""
        oldest = next((batch for batch in self._batches if not batch.over), None)
        if oldest is not None and (verdict := oldest.verdict()):
            _log.error("%s; replacing it", verdict)
            self._pipeline.process.kill()
            self._bury(verdict)

    def _bury(self, verdict: str = "") -> None:
        """The process is dead: say how everything ended, and be rid of it."""
        death = verdict or self._pipeline.process.bury()
        for batch in self._batches:
            batch.conclude(death)
        while not self._delivered() and not self._late:
            time.sleep(POLL_SECONDS)
            self._chores(None)
        for batch in [*self._batches]:
            self._let_go(batch)
        self._pipeline.discard()

    def _delivered(self) -> bool:
        for batch in self._batches:
            batch.deliver()
        return not any(batch.undelivered for batch in self._batches)

    def _let_go(self, batch: RunningBatch) -> None:
        self._batches.remove(batch)
        if batch.undelivered:
            _log.error("leaving without handing in %d events", batch.undelivered)
        for generation in batch.generations:
            self._ended(generation)
