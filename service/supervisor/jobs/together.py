"""The attempts that a pipeline process is told of at one time: one, or the rows of a batch."""

from collections.abc import Callable, Sequence

from service.channel import DeviceFree, Message, Run
from service.domain.generations.generation import Generation
from service.records.attempts import Attempts
from service.settings import WorkerSettings
from service.supervisor.jobs.process import PipelineProcess
from service.supervisor.jobs.running import RunningAttempt
from service.supervisor.jobs.watchdog import Silences, Watchdog


class RunningBatch:
    """Some attempts, from `Run` to the moment the last event of each is in Redis.

    Each is cancelled, timed out and ended for itself. When the process dies, all are lost.

    Args:
        attempts: where events and signs of life go.
        process: the pipeline process, warm, its device free.
        generations: as their attempts were begun; the rows of a batch, where there are several.
        settings: time limits.
        silences: how long attempts like these were silent.
        drain_deadline: the moment on the monotonic clock to hand back at; None while not draining.

    Attributes:
        generations: as given.
        drawn: whether the process said that it needs the device no more.
    """

    def __init__(
        self,
        attempts: Attempts,
        process: PipelineProcess,
        generations: Sequence[Generation],
        *,
        settings: WorkerSettings,
        silences: Silences,
        drain_deadline: Callable[[], float | None],
    ) -> None:
        self.generations = tuple(generations)
        self._process = process
        self._watchdog = Watchdog(generations, silences, settings)
        self._rows = [
            RunningAttempt(
                attempts, process, generation, settings=settings, drain_deadline=drain_deadline
            )
            for generation in generations
        ]
        self.drawn = False

    @property
    def over(self) -> bool:
        """Whether the last event of each was told; some may not be delivered yet."""
        return all(row.over for row in self._rows)

    @property
    def undelivered(self) -> int:
        """Events that Redis has not taken yet."""
        return sum(row.undelivered for row in self._rows)

    @property
    def first_attempts(self) -> bool:
        """Whether none of them was begun before."""
        return all(generation.attempt == 1 for generation in self.generations)

    def begin(self) -> None:
        """Tell the process; raises `ChannelClosed`."""
        first, *mates = (row.traced for row in self._rows)
        self._process.send(Run(generation=first, mates=tuple(mates)))

    def hear(self, message: Message | None) -> None:
        """Take in what the process says."""
        self._watchdog.hear(message)
        first = self.generations[0]
        if isinstance(message, DeviceFree):
            self.drawn |= (message.generation_id, message.attempt) == (first.id, first.attempt)
        for row in self._rows:
            row.hear(message)

    def look(self, *, alone: bool) -> None:
        """Deliver what was told, and look for reasons to end any; raises `ChannelClosed`."""
        for row in self._rows:
            row.deliver()
            row.look(spare=self.drawn and not alone)

    def deliver(self) -> None:
        """Hand in what waits, as far as Redis takes it."""
        for row in self._rows:
            row.deliver()

    def verdict(self) -> str:
        """Why the process has to be replaced; empty while it does not."""
        return self._watchdog.verdict()

    def conclude(self, death: str) -> None:
        """Say how those ended that the process did not bring to an end before it died."""
        for row in self._rows:
            if not row.over:
                row.conclude(death)
