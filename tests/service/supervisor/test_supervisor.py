"""`WarmWorker` as a process of its own, over a real Redis, with a scripted pipeline process."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from service.domain.generations.events import Queued
from service.domain.generations.generation import Status
from service.events.connection import connect
from service.events.stream import RedisEventLog
from service.records.keys import record_key
from service.records.records import RedisRecords
from service.settings import RedisSettings, WorkerSettings
from service.supervisor.jobs.running import POLL_SECONDS
from tests.generations import MODEL, make_generation
from tests.service.supervisor.waiting import alive, wait_until


class Desk:
    """What a client sees of the service: it submits, watches and waits."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.records = RedisRecords(connect(url), RedisSettings(url=url))
        self._log = RedisEventLog(url)

    def submit(self, prompt: str) -> str:
        return self.records.accept(make_generation(prompt), None).id

    def get(self, generation_id: str):
        return self.records.get(generation_id)

    def cancel(self, generation_id: str) -> None:
        self.records.request_cancel(generation_id, make_generation().created_at)

    def events(self, generation_id: str):
        return [stored.event for stored in self._log.read(generation_id, None, 10_000)]

    def story(self, generation_id: str) -> list[tuple[str, int]]:
        """Type and attempt of each event; steps in a row count once."""
        told: list[tuple[str, int]] = []
        for event in self.events(generation_id):
            if told[-1:] != [(event.type, event.attempt)]:
                told.append((event.type, event.attempt))
        return told

    def wait_for_steps(self, generation_id: str, attempt: int = 1) -> None:
        def stepped() -> bool:
            now = self.get(generation_id)
            return now.attempt == attempt and now.progress.step > 0

        wait_until(stepped, f"attempt {attempt} to step")

    def wait_for_end(self, generation_id: str):
        wait_until(lambda: self.get(generation_id).status.final, "an end")
        return self.get(generation_id)

    def wait_for_end_of(self, prompt: str):
        return self.wait_for_end(self.submit(prompt))

    def worker(self):
        (info,) = self.records.workers()
        return info

    def wait_for_state(self, state: str) -> None:
        wait_until(
            lambda: [info.state for info in self.records.workers()] == [state], f"a worker {state}"
        )


@pytest.fixture
def desk(redis_url):
    return Desk(redis_url)


def _idle(shared):
    url, worker = shared
    desk = Desk(url)
    desk.wait_for_state("idle")
    return desk, worker


@pytest.fixture
def steady(steady_worker):
    """A desk and a worker that many tests share, idle when a test gets them."""
    return _idle(steady_worker)


@pytest.fixture
def hurried(hurried_worker):
    """The same of a worker that gives no job more than a second."""
    return _idle(hurried_worker)


#: A worker counts as dead after three seconds instead of twenty.
QUICK_NOTICE = {"heartbeat_seconds": 0.5, "heartbeat_ttl_seconds": 3, "cancel_grace_seconds": 10}

WHOLE_STORY = [("queued", 0), ("started", 1), ("step", 1), ("succeeded", 1)]


class TestWarmth:
    def test_the_second_job_starts_nothing_and_loads_nothing(self, steady):
        desk, worker = steady
        children, loads = worker.children, desk.worker().pipeline_loads
        for _ in range(2):
            generation_id = desk.submit("paint")
            ended = desk.wait_for_end(generation_id)
            assert ended.status is Status.SUCCEEDED
            assert ended.result.recipe == {"seed": ended.request.seed}
            assert desk.story(generation_id) == WHOLE_STORY
        assert worker.children == children
        assert desk.worker().pipeline_loads == loads

    def test_a_failure_of_the_job_is_told_and_costs_no_warmth(self, steady):
        desk, worker = steady
        children = worker.children
        refused = desk.wait_for_end_of("refuse")
        assert refused.status is Status.FAILED
        assert refused.error.reason == "OUT_OF_MEMORY"
        assert desk.wait_for_end_of("paint").status is Status.SUCCEEDED
        assert worker.children == children

    def test_a_worker_tells_what_it_is_doing(self, steady):
        desk, _ = steady
        assert desk.worker().models == (MODEL,)
        assert desk.worker().warm_models == (MODEL,)
        generation_id = desk.submit("slow")
        desk.wait_for_state("busy")
        desk.cancel(generation_id)
        desk.wait_for_state("idle")

    def test_jobs_of_a_warm_model_come_first(self, desk, start_worker):
        cold = desk.records.accept(make_generation(model="owl"), None).id
        warm = desk.records.accept(make_generation(model="fox"), None).id
        start_worker(models=("owl", "fox"), warm=("fox",))
        assert desk.wait_for_end(cold).started_at > desk.wait_for_end(warm).started_at

    def test_the_urgent_come_first(self, desk, start_worker):
        ids = {
            priority: desk.records.accept(make_generation(priority=priority), None).id
            for priority in ("low", "normal", "high")
        }
        start_worker()
        begun = {name: desk.wait_for_end(one).started_at for name, one in ids.items()}
        assert begun["high"] < begun["normal"] < begun["low"]

    def test_nobody_is_overtaken_for_longer_than_set(self, desk, start_worker):
        """A worker warm for `fox`, with work for it all the time, turns to an older `owl`."""
        old = desk.records.accept(make_generation(model="owl"), None).id
        younger = [desk.records.accept(make_generation("linger", "fox"), None).id for _ in range(2)]
        start_worker(models=("fox", "owl"), warm=("fox",), overtake_seconds=0.5)
        begun = desk.wait_for_end(old).started_at
        assert desk.wait_for_end(younger[0]).started_at < begun
        assert begun < desk.wait_for_end(younger[-1]).started_at

    def test_a_job_without_a_record_is_dropped(self, steady):
        desk, _ = steady
        expired = desk.records.accept(make_generation(), None)
        desk.records.redis.delete(record_key(expired.id))
        assert desk.wait_for_end_of("paint").status is Status.SUCCEEDED
        wait_until(lambda: desk.records.queue_depth(MODEL) == 0, "it to leave the queue")


class TestMemory:
    SMALL = 64 * 64

    def test_what_fits_goes_first_and_what_does_not_waits_for_a_larger_worker(
        self, desk, start_worker
    ):
        large = desk.records.accept(make_generation(size=128), None).id
        small = desk.records.accept(make_generation(size=64), None).id
        start_worker(capacity=self.SMALL, heartbeat_seconds=0.2)
        assert desk.wait_for_end(small).status is Status.SUCCEEDED
        wait_until(lambda: len(desk.events(large)) == 2, "a reason")
        reason = desk.events(large)[-1].reason
        assert "no live worker has memory for 128 x 128 pixels with fox" in reason
        assert "64 x 64" in reason
        assert desk.get(large).status is Status.QUEUED
        start_worker(capacity=128 * 128)
        assert desk.wait_for_end(large).status is Status.SUCCEEDED
        assert desk.story(large)[:2] == [("queued", 0), ("started", 1)]
        assert [event.type for event in desk.events(large)].count("queued") == 2

    def test_what_never_fits_fails_and_says_what_would(self, desk, start_worker):
        large = desk.records.accept(make_generation(size=128), None).id
        start_worker(capacity=self.SMALL, heartbeat_seconds=0.2, unplaceable_seconds=0.6)
        ended = desk.wait_for_end(large)
        assert (ended.status, ended.error.reason) == (Status.FAILED, "NO_WORKER_FITS")
        assert "the largest that fits is 4096 pixels, such as 64 x 64" in ended.error.detail
        assert desk.records.queue_depth(MODEL) == 0
        assert desk.wait_for_end_of("paint").status is Status.SUCCEEDED


class TestPipelineDeath:
    def test_a_killed_pipeline_costs_an_attempt_and_not_the_job(self, steady):
        desk, worker = steady
        children, loads = len(worker.children), desk.worker().pipeline_loads
        generation_id = desk.submit("stumble")
        ended = desk.wait_for_end(generation_id)
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 2)
        assert desk.story(generation_id) == [
            ("queued", 0),
            ("started", 1),
            ("step", 1),
            ("queued", 1),
            ("started", 2),
            ("step", 2),
            ("succeeded", 2),
        ]
        again = next(event for event in desk.events(generation_id)[1:] if isinstance(event, Queued))
        assert "signal 9 (SIGKILL)" in again.reason
        assert len(worker.children) == children + 1
        assert desk.worker().pipeline_loads == loads + 1

    def test_three_deaths_fail_the_job_with_the_evidence_and_the_queue_goes_on(self, steady):
        desk, _ = steady
        doomed, waiting = desk.submit("doom"), desk.submit("paint")
        failed = desk.wait_for_end(doomed)
        assert (failed.status, failed.attempt) == (Status.FAILED, 3)
        assert failed.error.reason == "ATTEMPTS_LOST"
        for attempt in (1, 2, 3):
            assert f"attempt {attempt}: the pipeline process was killed" in failed.error.detail
        assert desk.wait_for_end(waiting).status is Status.SUCCEEDED

    def test_a_pipeline_that_talks_nonsense_is_replaced(self, steady):
        desk, worker = steady
        last = worker.children[-1]
        ended = desk.wait_for_end_of("babble")
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 2)
        assert not alive(last)

    def test_a_pipeline_that_is_stopped_is_replaced_and_the_job_goes_on(self, desk, start_worker):
        start_worker(stall_seconds=1)
        ended = desk.wait_for_end_of("freeze")
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 2)
        again = next(event for event in desk.events(ended.id)[1:] if isinstance(event, Queued))
        assert again.reason == "the pipeline process sent no sign of life for 1 s"

    def test_an_idle_pipeline_that_dies_is_replaced(self, steady):
        desk, worker = steady
        children = len(worker.children)
        os.kill(worker.children[-1], signal.SIGKILL)
        wait_until(lambda: len(worker.children) == children + 1, "another pipeline process")
        ended = desk.wait_for_end_of("paint")
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 1)


class TestCancel:
    def test_what_runs_stops_and_stays_warm_and_what_waits_goes_on(self, steady):
        desk, worker = steady
        children = worker.children
        running, waiting = desk.submit("slow"), desk.submit("paint")
        desk.wait_for_steps(running)
        desk.cancel(running)
        assert desk.wait_for_end(running).status is Status.CANCELLED
        assert desk.story(running)[-1] == ("cancelled", 1)
        assert desk.wait_for_end(waiting).status is Status.SUCCEEDED
        assert worker.children == children

    def test_cancelling_what_waits_leaves_what_runs_alone(self, steady):
        desk, _ = steady
        running, waiting = desk.submit("linger"), desk.submit("paint")
        desk.wait_for_steps(running)
        desk.cancel(waiting)
        assert desk.wait_for_end(running).status is Status.SUCCEEDED
        assert desk.story(waiting) == [("queued", 0), ("cancelled", 0)]

    def test_a_deaf_pipeline_is_killed_and_replaced(self, steady):
        desk, worker = steady
        deaf = worker.children[-1]
        stuck, waiting = desk.submit("stuck"), desk.submit("paint")
        desk.wait_for_steps(stuck)
        desk.cancel(stuck)
        assert desk.wait_for_end(stuck).status is Status.CANCELLED
        assert not alive(deaf)
        assert desk.wait_for_end(waiting).status is Status.SUCCEEDED

    def test_a_stopped_pipeline_is_killed_and_replaced(self, steady):
        desk, worker = steady
        stopped = worker.children[-1]
        generation_id = desk.submit("slow")
        desk.wait_for_steps(generation_id)
        os.kill(stopped, signal.SIGSTOP)
        desk.cancel(generation_id)
        assert desk.wait_for_end(generation_id).status is Status.CANCELLED
        assert not alive(stopped)
        assert desk.wait_for_end_of("paint").status is Status.SUCCEEDED

    def test_a_cancel_is_over_within_five_seconds_as_set(self):
        """A look at the record, the grace, and a look at the clock behind it."""
        assert WorkerSettings().cancel_grace_seconds + 2 * POLL_SECONDS < 5

    def test_a_job_that_takes_too_long_fails(self, hurried):
        desk, worker = hurried
        children = len(worker.children)
        for prompt, asked, more in (("slow", 60, 0), ("stuck", None, 1)):
            generation = make_generation(prompt, timeout_seconds=asked)
            failed = desk.wait_for_end(desk.records.accept(generation, None).id)
            assert failed.error.reason == "TIMED_OUT"
            assert "within 1 s" in failed.error.detail
            assert "JOB_TIMEOUT_SECONDS raised" in failed.error.detail
            assert desk.wait_for_end_of("paint").status is Status.SUCCEEDED
            assert len(worker.children) == children + more

    def test_a_request_may_have_a_shorter_limit(self, steady):
        desk, _ = steady
        generation = make_generation("slow", timeout_seconds=1)
        failed = desk.wait_for_end(desk.records.accept(generation, None).id)
        assert failed.error.reason == "TIMED_OUT"
        assert "within 1 s" in failed.error.detail
        assert "a longer timeout_seconds" in failed.error.detail

    def test_waiting_for_the_store_does_not_count_against_the_limit(self, hurried):
        desk, _ = hurried
        shelved = desk.submit("shelve")
        phases = set()
        while not (record := desk.get(shelved)).status.final:
            phases.add((record.progress.phase, record.progress.reason))
            time.sleep(0.05)
        assert ("waiting_for_store", "STORE_UNAVAILABLE") in phases
        assert record.status is Status.SUCCEEDED


class TestDrain:
    def test_an_idle_worker_leaves_at_once(self, desk, start_worker):
        worker = start_worker()
        desk.wait_for_state("idle")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert desk.records.workers() == ()
        assert not alive(worker.children[0])

    def test_what_runs_may_end_and_what_waits_waits(self, desk, start_worker):
        worker = start_worker()
        running, waiting = desk.submit("linger"), desk.submit("paint")
        desk.wait_for_steps(running)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert desk.story(running) == WHOLE_STORY
        assert desk.story(waiting) == [("queued", 0)]
        assert desk.records.queue_depth(MODEL) == 1

    def test_what_does_not_end_in_time_is_handed_back(self, desk, start_worker):
        worker = start_worker(drain_grace_seconds=0.3, cancel_grace_seconds=0.3)
        generation_id = desk.submit("stuck")
        desk.wait_for_steps(generation_id)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert desk.story(generation_id)[-1] == ("queued", 1)
        assert desk.records.queue_depth(MODEL) == 1
        assert not alive(worker.children[0])

    def test_being_handed_back_is_no_loss(self, desk, start_worker):
        generation_id = desk.submit("stall")
        first = start_worker(drain_grace_seconds=0, max_attempts=1)
        desk.wait_for_steps(generation_id)
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
        start_worker(max_attempts=1)
        ended = desk.wait_for_end(generation_id)
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 2)


class TestWorkerDeath:
    def test_another_worker_takes_over_and_the_pipeline_dies_with_its_worker(
        self, desk, start_worker
    ):
        first = start_worker(**QUICK_NOTICE)
        generation_id = desk.submit("stall")
        desk.wait_for_steps(generation_id)
        start_worker(**QUICK_NOTICE)
        wait_until(lambda: len(desk.records.workers()) == 2, "two workers")
        first.signal(signal.SIGKILL)
        wait_until(lambda: not alive(first.children[0]), "the pipeline process to die")
        ended = desk.wait_for_end(generation_id)
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 2)
        wait_until(lambda: len(desk.records.workers()) == 1, "the dead worker to be forgotten")

    def test_a_worker_back_from_the_dead_is_not_heard(self, desk, start_worker):
        first = start_worker(**QUICK_NOTICE)
        generation_id = desk.submit("stall")
        desk.wait_for_steps(generation_id)
        first.signal(signal.SIGSTOP)
        start_worker(**QUICK_NOTICE)
        assert desk.wait_for_end(generation_id).attempt == 2
        story = desk.story(generation_id)
        first.signal(signal.SIGCONT)
        wait_until(lambda: len(desk.records.workers()) == 2, "the first worker to come back")
        wait_until(lambda: {w.state for w in desk.records.workers()} == {"idle"}, "idle workers")
        assert desk.story(generation_id) == story
        assert [attempt for _, attempt in story] == sorted(attempt for _, attempt in story)
        assert len(first.children) == 1


class TestRedisDeath:
    def test_a_worker_may_be_there_before_redis_is(self, own_redis, start_worker):
        own_redis.stop()
        with socket.create_server(("127.0.0.1", own_redis.port)) as in_its_place:
            in_its_place.settimeout(60)
            start_worker(own_redis.url)
            in_its_place.accept()[0].close()
        own_redis.start()
        assert Desk(own_redis.url).wait_for_end_of("paint").status is Status.SUCCEEDED

    def test_a_job_outlives_a_restart_of_redis(self, own_redis, start_worker):
        desk = Desk(own_redis.url)
        worker = start_worker(own_redis.url)
        generation_id = desk.submit("linger")
        desk.wait_for_steps(generation_id)
        own_redis.stop(signal.SIGKILL)
        time.sleep(0.5)
        own_redis.start()
        ended = desk.wait_for_end(generation_id)
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 1)
        steps = [event.step for event in desk.events(generation_id) if event.type == "step"]
        assert steps == list(range(1, 51))
        assert desk.wait_for_end_of("paint").status is Status.SUCCEEDED
        assert len(worker.children) == 1


def test_the_supervisor_never_loads_torch(steady):
    _, worker = steady
    loaded = Path(f"/proc/{worker.pid}/maps").read_text(encoding="utf-8")
    assert "libpython" in loaded or "/python" in loaded
    assert "libtorch" not in loaded
