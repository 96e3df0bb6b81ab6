"""One attempt while it runs: relay what happens, look for reasons to end it, and end it.

`service.supervisor.jobs.together` runs the loop in which this is done.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, auto
from functools import partial

from service import tracing
from service.channel import Cancel, ChannelClosed, Happened, Message
from service.domain.errors import Unavailable
from service.domain.generations.events import (
    Cancelled,
    Event,
    Failed,
    Queued,
    WaitingForStore,
    status_after,
)
from service.domain.generations.generation import Failure, Generation, Status
from service.records.attempts import Attempts, Wanted
from service.settings import WorkerSettings
from service.supervisor.jobs.process import PipelineProcess

_log = logging.getLogger(__name__)

#: Longest wait for a message before looking at the record, the clock and the supervisor's chores.
POLL_SECONDS = 0.25

#: Redis did not answer: how long to leave it alone.
PATIENCE_SECONDS = 1.0


class Ending(Enum):
    """Why the supervisor ends an attempt before its time."""

    CANCEL = auto()
    TIMEOUT = auto()
    DRAIN = auto()
    LOST = auto()


class RunningAttempt:
    """An attempt from its begin to the moment its last event is in Redis.

    Events that Redis cannot take now wait here, in order, while the pipeline computes on.

    Args:
        attempts: where events and signs of life go.
        process: the pipeline process that runs it.
        generation: as its attempt was begun.
        settings: time limits.
        drain_deadline: the moment on the monotonic clock to hand back at; None while not draining.

    Attributes:
        over: whether its last event was told; it may not be delivered yet.
    """

    def __init__(
        self,
        attempts: Attempts,
        process: PipelineProcess,
        generation: Generation,
        *,
        settings: WorkerSettings,
        drain_deadline: Callable[[], float | None],
    ) -> None:
        self._attempts = attempts
        self._process = process
        self._generation = generation
        self._settings = settings
        self._drain_deadline = drain_deadline
        self._outbox: deque[Callable[[], object]] = deque()
        self._ending: Ending | None = None
        self._kill_at = 0.0
        self._look_at = 0.0
        self._deliver_at = 0.0
        asked = generation.timeout_seconds or settings.job_timeout_seconds
        self._timeout_seconds = min(asked, settings.job_timeout_seconds)
        self._timeout_at = time.monotonic() + self._timeout_seconds
        self._span = tracing.begin_attempt(generation)
        self._waiting_since: float | None = None
        self.over = False

    @property
    def traced(self) -> Generation:
        """The generation with the trace context of this attempt."""
        context = tracing.context_of(self._span)
        return self._generation.model_copy(update={"trace_context": context})

    def hear(self, message: Message | None) -> None:
        """Take in what the pipeline process says, if it concerns this attempt."""
        if not isinstance(message, Happened) or not self._concerns(message):
            return
        event = message.event
        self._stop_the_clock(isinstance(event, WaitingForStore))
        if isinstance(event, Cancelled) and self._ending is not None:
            self.conclude("")
        elif self._ending is not Ending.LOST:
            self._tell(event)
        self.over = status_after(event).final
        if self.over:
            tracing.finish(self._span, "lost", "another attempt took its place")

    def _concerns(self, message: Happened) -> bool:
        mine = (self._generation.id, self._generation.attempt)
        return (message.generation_id, message.event.attempt) == mine

    def _stop_the_clock(self, waiting: bool) -> None:
        """Time that an attempt waits for the store does not count against its limit."""
        now = time.monotonic()
        if self._waiting_since is not None:
            self._timeout_at += now - self._waiting_since
        self._waiting_since = now if waiting else None

    def look(self, *, spare: bool) -> None:
        """Look for a reason to end the attempt, or for one to wait no longer for its end.

        Args:
            spare: the process is needed for another one, and this one will leave it by itself.

        Raises:
            ChannelClosed: the pipeline process had to be killed.
        """
        if self.over:
            return
        now = time.monotonic()
        if self._ending is not None:
            if now > self._kill_at:
                self._wait_no_longer(spare)
            return
        if now < self._look_at:
            return
        self._look_at = now + POLL_SECONDS
        drain_at = self._drain_deadline()
        wanted = self._touch()
        if wanted is Wanted.LOST:
            self._end(Ending.LOST)
        elif wanted is Wanted.CANCEL:
            self._end(Ending.CANCEL)
        elif self._waiting_since is None and now > self._timeout_at:
            self._end(Ending.TIMEOUT)
        elif drain_at is not None and now > drain_at:
            self._end(Ending.DRAIN)

    def _touch(self) -> Wanted:
        try:
            return self._attempts.touch(self._generation.id, self._generation.attempt)
        except Unavailable:
            self._look_at = time.monotonic() + PATIENCE_SECONDS
            return Wanted.CONTINUE

    def _end(self, ending: Ending) -> None:
        _log.info("ending the attempt: %s", ending.name.lower())
        self._ending = ending
        self._kill_at = time.monotonic() + self._settings.cancel_grace_seconds
        self._process.send(
            Cancel(
                generation_id=self._generation.id,
                attempt=self._generation.attempt,
                resumable=ending is Ending.DRAIN,
            )
        )

    def _wait_no_longer(self, spare: bool) -> None:
        if spare:
            _log.warning("the attempt does not stop; what it stores is for nobody")
            self.conclude("")
            return
        _log.warning("the pipeline process does not stop; killing it")
        self._process.kill()
        raise ChannelClosed("killed")

    def conclude(self, death: str) -> None:
        """Say how the attempt ended, since the pipeline process did not get to say it."""
        self.over = True
        attempt, at = self._generation.attempt, datetime.now(UTC)
        match self._ending:
            case Ending.CANCEL:
                self._tell(Cancelled(attempt=attempt, at=at))
            case Ending.TIMEOUT:
                self._tell(Failed(attempt=attempt, at=at, error=self._timeout()))
            case Ending.DRAIN:
                self._tell(Queued(attempt=attempt, at=at, reason="its worker is shutting down"))
            case None:
                _log.error("lost the attempt: %s", death)
                tracing.finish(self._span, "lost", death)
                lose = partial(self._attempts.lose, self._generation.id, attempt, death, at)
                self._outbox.append(lose)

    def _timeout(self) -> Failure:
        limit, asked = self._settings.job_timeout_seconds, self._timeout_seconds
        more = (
            "a longer timeout_seconds"
            if asked < limit
            else "have HIDIFFUSION_WORKER__JOB_TIMEOUT_SECONDS raised"
        )
        return Failure(
            reason="TIMED_OUT",
            detail=f"not finished within {asked} s; ask for fewer steps or pixels, or {more}",
        )

    def _tell(self, event: Event) -> None:
        if (status := status_after(event)) is not Status.RUNNING:
            reason = event.error.reason if isinstance(event, Failed) else ""
            tracing.finish(self._span, status.value, reason)
        self._outbox.append(partial(self._attempts.records.record, self._generation.id, event))

    def deliver(self) -> None:
        """Hand in what waits, oldest first, as far as Redis takes it."""
        if time.monotonic() < self._deliver_at:
            return
        try:
            while self._outbox:
                self._outbox[0]()
                self._outbox.popleft()
        except Unavailable as error:
            self._deliver_at = time.monotonic() + PATIENCE_SECONDS
            _log.warning("%d events wait for Redis: %s", len(self._outbox), error)

    @property
    def undelivered(self) -> int:
        """Events that Redis has not taken yet."""
        return len(self._outbox)
