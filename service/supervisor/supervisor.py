"""`WarmWorker`: an RQ worker whose work-horse is one long-lived pipeline process.

RQ's own workers fork or spawn a process per job, which would load the model each time, or run the
job in their own process, which can then neither be timed out nor survive it. Here the worker stays
free of torch, and keeps the process that holds the pipelines:

    starting --Warm--> idle --job--> busy --final event--> idle
        ^                |             |
        +--- it died ----+-- it died --+        any of them --SIGTERM--> draining

While busy it takes the next job as soon as the device is free: the last picture is still encoded
and stored then (`service.supervisor.jobs.runs`).

Of RQ this uses the queues, the registration of workers and their heartbeats. What RQ does about
crashed jobs and stopping them is left aside: leases, `Recovery` and the channel do it faster.
"""

import contextlib
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import FrameType

import redis
from rq import Queue
from rq.job import Job
from rq.worker.base import WorkerStatus

from service import tracing
from service.application.ports import WorkerInfo
from service.channel import Happened, Message
from service.domain.errors import RecordUnreadable, Unavailable
from service.domain.generations.generation import Generation
from service.domain.generations.queueing import Waiting
from service.domain.requests.request import PRIORITIES
from service.health import answering
from service.records.attempts import Attempts
from service.records.keys import queue_name
from service.records.queue.enqueue import SERIALIZER, model_queue
from service.records.queue.rq_worker import ReturningWorker
from service.settings import WorkerSettings
from service.supervisor.housekeeping import Housekeeping
from service.supervisor.jobs.pipeline import Pipeline
from service.supervisor.jobs.running import POLL_SECONDS
from service.supervisor.jobs.runs import Runs
from service.supervisor.lobby import Lobby
from service.supervisor.mates import Mates
from service.supervisor.metrics import WorkerMetrics
from service.supervisor.pulse import Pulse
from service.supervisor.routing import Rule
from service.telemetry import bind_generation

_log = logging.getLogger(__name__)

PIPELINE_COMMAND = (sys.executable, "-m", "service.worker.process.main")

#: Longest wait for a job before looking after the pipeline process and the heartbeat.
DEQUEUE_SECONDS = 1.0

#: Seconds between attempts to reach Redis again.
RECONNECT_SECONDS = 1.0

#: A supervisor whose loop has not come round for this long is not well; Redis may take 11 s of it.
STUCK_SECONDS = 60.0

#: RQ waits ten seconds longer than this less 15 for any answer of Redis; 16 makes it 11 s.
RQ_WORKER_TTL = 16


class WarmWorker(ReturningWorker):
    """Take generations from the queues of `models` and run them in a warm pipeline process.

    Args:
        models: names of the models to serve.
        connection: RQ's connection; it answers in bytes.
        attempts: where records are kept.
        settings: intervals and limits.
        housekeeping: what this worker does for all, while it is its turn.
        command: what starts the pipeline process; it is given `--channel-fd N` in the end.
        environment: variables for the pipeline process on top of this process's own.
        offered: tells what is to be served by now; None: the same all the time.
    """

    def __init__(
        self,
        models: Sequence[str],
        *,
        connection: redis.Redis,
        attempts: Attempts,
        settings: WorkerSettings,
        housekeeping: Housekeeping,
        command: Sequence[str] = PIPELINE_COMMAND,
        environment: Mapping[str, str] | None = None,
        offered: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        super().__init__(
            [queue_name(model, priority) for priority in PRIORITIES for model in models],
            name=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
            connection=connection,
            serializer=SERIALIZER,
            worker_ttl=RQ_WORKER_TTL,
            log_job_description=False,
        )
        self._models = tuple(models)
        self._offered = offered
        self._attempts = attempts
        self._settings = settings
        self._pipeline = Pipeline(
            command, environment or {}, settings.warm_up_seconds, settings.stall_seconds
        )
        self._warm_models: tuple[str, ...] = ()
        rule = Rule(settings.overtake_seconds, settings.cold_delay_seconds)
        self._lobby = Lobby(attempts.records, self._models, rule)
        self._mates = Mates(attempts.records, self._lobby, settings.max_batch)
        self._pulse = Pulse(attempts, settings, self._info, self.heartbeat)
        self._housekeeping = housekeeping
        self._metrics = WorkerMetrics(self._info)
        self._chosen: Waiting
        self._look_at = 0.0
        self._drain_at: float | None = None
        self._runs = Runs(
            attempts,
            self._pipeline,
            settings=settings,
            chores=self._do_chores,
            drain_deadline=lambda: self._drain_at,
            ended=self._note_end,
        )
        self._seen_at = time.monotonic()

    def run(self) -> None:
        """Work until told to stop; Redis may go and come back meanwhile."""
        self._install_signal_handlers()  # type: ignore[no-untyped-call]
        stop_metrics = self._metrics.serve(self._settings.metrics_host, self._settings.metrics_port)
        self._housekeeping.start()
        try:
            with answering("worker", self._health):
                self._pipeline.tend(0.0)
                self._keep_working()
                self._runs.finish()
        finally:
            self._housekeeping.stop()
            stop_metrics()
            self._pipeline.stop()
            with contextlib.suppress(Unavailable):
                self._attempts.leave(self.name)

    def _keep_working(self) -> None:
        while not self._stop_requested:
            try:
                self.work(logging_level=None)
            except redis.RedisError as error:
                _log.warning("Redis does not answer: %s", error)
            self._seen_at = time.monotonic()
            if not self._stop_requested:
                time.sleep(RECONNECT_SECONDS)

    def _health(self) -> str:
        """What is wrong with this worker, asked from another thread."""
        silent = time.monotonic() - self._seen_at
        if silent > STUCK_SECONDS:
            return f"the supervisor has done nothing for {silent:.0f} s"
        return "" if self._pipeline.warm else self._pipeline.trouble

    # What RQ's work loop calls ------------------------------------------------------------------

    def dequeue_job_and_maintain_ttl(
        self,
        timeout: int | None,  # noqa: ARG002
        max_idle_time: int | None = None,  # noqa: ARG002
    ) -> tuple[Job, Queue] | None:
        """The next job, once the pipeline process is warm and free; None when told to stop."""
        self._show_state()
        while not self._stop_requested:
            if not self._runs.busy:
                self._pipeline.tend(POLL_SECONDS)
            self._serve_what_is_offered()
            self._do_chores()
            if self._pipeline.warm and self._runs.free and (taken := self._take()) is not None:
                return taken
            if self._runs.busy:
                self._runs.tend()
        return None

    def _serve_what_is_offered(self) -> None:
        """Take on new models; those that went stay, for what still waits for them is to be told."""
        new = set(self._offered()) - {*self._models} if self._offered else None
        if new:
            _log.info("now also serving %s", ", ".join(sorted(new)))
            self._models = (*self._models, *sorted(new))
            self._lobby.serve(self._models)
            self._pulse.soon()

    def _take(self) -> tuple[Job, Queue] | None:
        """The job to run next, if there is one now or soon; it stays in its queue until begun."""
        if self._runs.busy and time.monotonic() < self._look_at:
            return None
        try:
            chosen = self._lobby.choose(self.name, self._warm_models, self._pipeline.capacities)
            if chosen is None or (self._runs.busy and not self._lobby.untried(chosen.id)):
                self._wait_for_more()
                return None
        except Unavailable as error:
            _log.warning("no jobs without Redis: %s", error)
            time.sleep(RECONNECT_SECONDS)
            return None
        self._chosen = chosen
        job = Job(chosen.id, connection=self.connection, serializer=SERIALIZER)
        return job, model_queue(chosen.model, "normal", self.connection)

    def _wait_for_more(self) -> None:
        """Until something is enqueued, or for a second; what runs is not left alone for that."""
        if self._runs.busy:
            self._look_at = time.monotonic() + POLL_SECONDS
        else:
            self._lobby.wait(DEQUEUE_SECONDS)

    def execute_job(self, job: Job, queue: Queue) -> None:  # noqa: ARG002
        """Run one generation until the next may begin: to its end, or until it is drawn."""
        with bind_generation(job.id):
            try:
                generation = self._attempts.records.begin_attempt(
                    job.id, self.name, datetime.now(UTC)
                )
            except (Unavailable, RecordUnreadable) as error:
                _log.warning("chosen, but not begun: %s", error)
                return
            if generation is None:
                _log.info("dropped: unknown, final or begun by another worker")
                with contextlib.suppress(Unavailable):
                    self._attempts.records.lines.drop(self._chosen)
                return
            with (
                tracing.within(generation.trace_context),
                bind_generation(generation.id, generation.attempt),
            ):
                _log.info("the attempt begins")
                capacities = self._pipeline.capacities
                mates = self._mates.begun_with(generation, self.name, capacities)
                self._run((generation, *mates))

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """A second signal: give the running attempt no more time."""
        self._drain_at = time.monotonic()

    def _shutdown(self) -> None:
        self._stop_requested = True
        grace = self._settings.drain_grace_seconds - self._settings.cancel_grace_seconds
        self._drain_at = time.monotonic() + max(0.0, grace)
        self._pulse.soon()

    # What happens between jobs and during them ---------------------------------------------------

    def _run(self, generations: Sequence[Generation]) -> None:
        """Run some attempts until others may be run."""
        for generation in generations:
            self._metrics.begun(generation)
        self._runs.begin(generations)
        self._show_state()
        while not self._runs.free:
            self._runs.tend()

    def _note_end(self, generation: Generation) -> None:
        self._metrics.ended(generation.id)
        self._show_state()

    def _show_state(self) -> None:
        """Let RQ's own tools, too, see whether anything runs."""
        self._pulse.soon()
        state = WorkerStatus.BUSY if self._runs.busy else WorkerStatus.IDLE
        if self.get_state() != state:
            with contextlib.suppress(redis.RedisError):
                self.set_state(state)

    def _do_chores(self, message: Message | None = None) -> None:
        """Take in what the pipeline process says of itself, and beat when it is time."""
        self._seen_at = time.monotonic()
        self._pipeline.note(message)
        if isinstance(message, Happened):
            self._metrics.heard(message.generation_id, message.event)
        self._horse_pid = self._pipeline.pid
        if self._pipeline.models != self._warm_models:
            self._warm_models = self._pipeline.models
            self._pulse.soon()
        self._pulse.beat_when_due()

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            name=self.name,
            state=self._current_state(),
            models=self._models,
            warm_models=self._warm_models,
            pipeline_loads=self._pipeline.loads,
            pipeline_evictions=self._pipeline.evictions,
            capacities=self._pipeline.capacities,
            trouble=self._pipeline.trouble,
        )

    def _current_state(self) -> str:
        if self._stop_requested:
            return "draining"
        if not self._pipeline.warm:
            return "starting"
        return "busy" if self._runs.busy else "idle"
