"""Records in a real Redis: accepted whole or not at all, moved only by the attempt that runs."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
import redis
from rq import Queue
from rq.job import Job

from service.application.ports import IdempotencyClaim
from service.domain.errors import GenerationNotFound, IdempotencyMismatch, Unavailable
from service.domain.generations.events import (
    Cancelled,
    Failed,
    Previewed,
    Queued,
    Started,
    Succeeded,
)
from service.domain.generations.generation import Failure, Progress, Status
from service.events.connection import connect
from service.events.stream import RedisEventLog
from service.records.keys import job_key, queue_key
from service.records.queue.enqueue import JOB_FUNCTION, model_queue
from service.records.records import RedisRecords
from service.settings import RedisSettings
from tests.generations import MODEL, SEED, make_generation, make_manifest, now, step
from tests.servers import CuttingProxy, free_port


@pytest.fixture
def log(redis_url):
    return RedisEventLog(redis_url)


@pytest.fixture
def client(redis_url):
    client = connect(redis_url)
    yield client
    client.close()


@pytest.fixture
def generation(records):
    return records.accept(make_generation(), None)


def events(log, generation):
    return [stored.event.type for stored in log.read(generation.id, None, 100)]


def snapshot(url: str) -> dict[bytes, object]:
    """Every key with its value, whatever its type."""
    with redis.Redis.from_url(url) as client:
        read = {
            b"string": client.get,
            b"hash": client.hgetall,
            b"stream": client.xrange,
            b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
            b"list": lambda key: client.lrange(key, 0, -1),
            b"set": client.smembers,
        }
        return {key: read[client.type(key)](key) for key in client.keys("*")}


def records_at(url: str) -> RedisRecords:
    return RedisRecords(connect(url), RedisSettings(url=url))


class TestAccept:
    def test_the_record_comes_back_exactly(self, records):
        generation = make_generation("a fox 🦊 with 'quotes' and \n lines")
        assert records.accept(generation, None) == generation
        assert records.get(generation.id) == generation
        assert records.get(generation.id).request.seed == SEED

    def test_it_is_announced_and_enqueued(self, records, log, generation):
        assert events(log, generation) == ["queued"]
        assert records.queue_depth(MODEL) == 1
        assert records.queue_depth("other") == 0

    def test_each_priority_has_a_queue_of_its_own(self, records, client):
        high = records.accept(make_generation(priority="high"), None)
        assert records.get(high.id).priority == "high"
        assert client.lrange(queue_key(MODEL, "high"), 0, -1) == [high.id]
        assert records.queue_depth(MODEL) == 1
        records.request_cancel(high.id, now())
        assert records.queue_depth(MODEL) == 0

    def test_rq_finds_the_id_and_nothing_else_in_its_queue(self, redis_url, generation):
        with redis.Redis.from_url(redis_url) as connection:
            queue = Queue(f"generations:{MODEL}:normal", connection=connection, serializer="json")
            (job,) = queue.jobs
            assert job.id == generation.id
            assert job.args == [generation.id]
            assert job.kwargs == {}

    def test_rqs_envelope_is_json(self, redis_url, generation):
        with redis.Redis.from_url(redis_url) as connection:
            job = Job.fetch(generation.id, connection=connection, serializer="json")
            assert json.loads(job.data)[2:] == [[generation.id], {}]

    def test_without_redis_nothing_is_accepted(self):
        records = records_at(f"redis://127.0.0.1:{free_port()}/0")
        with pytest.raises(Unavailable) as caught:
            records.accept(make_generation(), None)
        assert caught.value.dependency == "redis"

    @pytest.mark.parametrize(("setting", "value"), [("maxmemory", 1), ("min-replicas-to-write", 1)])
    def test_a_redis_that_refuses_writes_is_left_as_it_was(
        self, records, client, redis_url, setting, value
    ):
        claim = IdempotencyClaim("key", "print")
        records.accept(make_generation(), None)
        before = snapshot(redis_url)
        client.config_set(setting, value)
        try:
            with pytest.raises(Unavailable):
                records.accept(make_generation(), claim)
        finally:
            client.config_set(setting, 0)
        assert snapshot(redis_url) == before

    def test_a_lost_reply_neither_loses_nor_repeats_it(self, redis_url, shared_redis, log):
        proxy = CuttingProxy(shared_redis.port)
        records = records_at(f"redis://127.0.0.1:{proxy.port}/0")
        records.accept(make_generation(), None)  # so that RQ has asked for the server's version
        proxy.lose_the_reply_to(b"EVALSHA")
        generation = records.accept(make_generation(), IdempotencyClaim("key", "print"))
        proxy.close()
        assert proxy.cuts == 1
        assert events(log, generation) == ["queued"]
        assert records_at(redis_url).queue_depth(MODEL) == 2

    def test_what_was_accepted_survives_the_death_of_redis(self, own_redis):
        generation = records_at(own_redis.url).accept(make_generation(), None)
        own_redis.stop(signal.SIGKILL)
        own_redis.start()
        records = records_at(own_redis.url)
        assert records.get(generation.id) == generation
        assert records.queue_depth(MODEL) == 1
        assert events(RedisEventLog(own_redis.url), generation) == ["queued"]


def test_the_entry_in_the_queue_is_the_one_that_rq_would_have_made(records, redis_url):
    generation = records.accept(make_generation(), None)
    with redis.Redis.from_url(redis_url) as client:
        queue = model_queue(generation.request.model, generation.priority, client)

        def written() -> tuple[dict[bytes, bytes], list[bytes], set[bytes]]:
            fields = client.hgetall(job_key(generation.id))
            for moment in (b"created_at", b"enqueued_at"):
                datetime.fromisoformat(fields.pop(moment).decode())
            return fields, client.lrange(queue.key, 0, -1), client.smembers("rq:queues")

        ours = written()
        client.delete(job_key(generation.id), queue.key, "rq:queues")
        description = f"generation {generation.id}"
        queue.enqueue_call(
            JOB_FUNCTION, args=[generation.id], job_id=generation.id, description=description
        )
        assert ours == written()


class TestIdempotency:
    CLAIM = IdempotencyClaim("key", "print")

    def test_the_same_key_and_request_give_the_same_generation(self, records):
        first = records.accept(make_generation(), self.CLAIM)
        assert records.accept(make_generation(), self.CLAIM) == first
        assert records.queue_depth(MODEL) == 1

    def test_fifty_at_once_make_one_job(self, records, log):
        with ThreadPoolExecutor(50) as pool:
            accepted = list(
                pool.map(lambda _: records.accept(make_generation(), self.CLAIM), range(50))
            )
        assert len({generation.id for generation in accepted}) == 1
        assert records.queue_depth(MODEL) == 1
        assert events(log, accepted[0]) == ["queued"]
        assert len(records.list(status=None, cursor=None, limit=100).generations) == 1

    def test_the_same_key_with_another_request_is_refused(self, records):
        records.accept(make_generation(), self.CLAIM)
        with pytest.raises(IdempotencyMismatch, match="'key'"):
            records.accept(make_generation(), IdempotencyClaim("key", "other"))
        assert records.queue_depth(MODEL) == 1

    def test_the_key_is_free_again_once_its_generation_is_deleted(self, records):
        first = records.accept(make_generation(), self.CLAIM)
        records.delete(first.id)
        assert records.accept(make_generation(), self.CLAIM) != first

    def test_a_key_outlives_neither_its_time_nor_its_record(self, redis_url, client):
        records = RedisRecords(client, RedisSettings(url=redis_url, idempotency_ttl_seconds=77))
        first = records.accept(make_generation(), self.CLAIM)
        assert 0 < client.ttl("hidiffusion:idempotency:key") <= 77
        client.delete(f"hidiffusion:generation:{first.id}")
        assert records.accept(make_generation(), self.CLAIM) != first


class TestBegin:
    def test_a_claim_numbers_the_attempt_and_starts_it(self, records, log, generation):
        at = now()
        begun = records.begin_attempt(generation.id, "w1", at)
        assert begun == records.get(generation.id)
        assert (begun.status, begun.attempt, begun.started_at) == (Status.RUNNING, 1, at)
        last = log.read(generation.id, None, 10)[-1].event
        assert last == Started(attempt=1, at=at, worker="w1")

    def test_of_many_workers_one_gets_it(self, records, generation):
        def claim(number):
            return records.begin_attempt(generation.id, f"w{number}", now())

        with ThreadPoolExecutor(20) as pool:
            claims = [begun for begun in pool.map(claim, range(20)) if begun is not None]
        assert [begun.attempt for begun in claims] == [1]

    def test_nothing_is_claimed_of_a_final_or_unknown_generation(self, records, generation):
        records.request_cancel(generation.id, now())
        assert records.begin_attempt(generation.id, "w1", now()) is None
        assert records.begin_attempt("unknown", "w1", now()) is None

    def test_a_lost_reply_does_not_lose_the_claim(self, shared_redis, log):
        proxy = CuttingProxy(shared_redis.port)
        records = records_at(f"redis://127.0.0.1:{proxy.port}/0")
        generation = records.accept(make_generation(), None)
        proxy.lose_the_reply_to(b"EVALSHA")
        begun = records.begin_attempt(generation.id, "w1", now())
        proxy.close()
        assert proxy.cuts == 1
        assert begun is not None
        assert begun.attempt == 1
        assert events(log, generation) == ["queued", "started"]


class TestRecord:
    @pytest.fixture
    def running(self, records, generation):
        return records.begin_attempt(generation.id, "w1", now())

    def test_an_event_moves_the_record_with_it(self, records, log, running):
        assert records.record(running.id, step(1, number=2))
        assert records.get(running.id).progress == Progress(phase="denoising", step=2, total=3)
        assert events(log, running) == ["queued", "started", "step"]

    def test_an_event_without_progress_leaves_the_progress(self, records, running):
        records.record(running.id, step(1, number=2))
        preview = Previewed(attempt=1, at=now(), step=2, key="k", width=8, height=8)
        assert records.record(running.id, preview)
        assert records.get(running.id).progress.step == 2

    def test_success_ends_it_with_its_result(self, records, client, running):
        done = Succeeded(attempt=1, at=now(), manifest=make_manifest(running, 1))
        assert records.record(running.id, done)
        ended = records.get(running.id)
        assert ended.status is Status.SUCCEEDED
        assert ended.result == done.manifest
        assert ended.finished_at == done.at
        assert ended.progress.phase == "done"
        assert not client.exists(job_key(running.id))

    def test_failure_ends_it_with_its_reason(self, records, running):
        error = Failure(reason="OUT_OF_MEMORY", detail="no room", retryable=True)
        assert records.record(running.id, Failed(attempt=1, at=now(), error=error))
        assert records.get(running.id).error == error
        assert records.get(running.id).status is Status.FAILED

    @pytest.mark.parametrize("attempt", [0, 2])
    def test_another_attempt_writes_nothing(self, records, redis_url, running, attempt):
        before = snapshot(redis_url)
        done = Succeeded(attempt=attempt, at=now(), manifest=make_manifest(running, attempt))
        assert not records.record(running.id, step(attempt))
        assert not records.record(running.id, done)
        assert snapshot(redis_url) == before

    def test_after_the_end_nothing_is_written(self, records, redis_url, running):
        records.record(running.id, Cancelled(attempt=1, at=now()))
        before = snapshot(redis_url)
        assert not records.record(running.id, step(1))
        assert not records.record(running.id, Cancelled(attempt=1, at=now()))
        assert snapshot(redis_url) == before

    def test_an_attempt_that_lost_its_place_is_not_heard_before_the_next_begins(
        self, records, redis_url, running
    ):
        assert records.record(running.id, Queued(attempt=1, at=now(), reason="silent"))
        before = snapshot(redis_url)
        assert not records.record(running.id, step(1))
        assert snapshot(redis_url) == before

    def test_the_unknown_are_not_recorded(self, records, client):
        assert not records.record("unknown", step(1))
        assert client.keys("*") == []

    def test_a_lost_reply_does_not_repeat_the_event(self, shared_redis, running, log):
        proxy = CuttingProxy(shared_redis.port)
        records = records_at(f"redis://127.0.0.1:{proxy.port}/0")
        records.record(running.id, step(1, number=1))
        proxy.lose_the_reply_to(b"EVALSHA")
        assert records.record(running.id, step(1, number=2))
        proxy.lose_the_reply_to(b"EVALSHA")
        assert records.record(running.id, Cancelled(attempt=1, at=now()))
        proxy.close()
        assert proxy.cuts == 2
        assert events(log, running) == ["queued", "started", "step", "step", "cancelled"]

    def test_queued_again_it_waits_before_all_others(self, records, client, running):
        other = records.accept(make_generation(), None)
        records.record(running.id, Queued(attempt=1, at=now(), reason="lost"))
        assert client.lrange(queue_key(MODEL, "normal"), 0, -1) == [running.id, other.id]
        assert records.get(running.id).status is Status.QUEUED
        again = records.begin_attempt(running.id, "w2", now())
        assert again is not None
        assert again.attempt == 2

    def test_what_is_final_expires_and_what_is_not_stays(self, redis_url, client):
        records = RedisRecords(client, RedisSettings(url=redis_url, record_ttl_seconds=77))
        generation = records.accept(make_generation(), None)
        keys = [f"hidiffusion:{kind}:{generation.id}" for kind in ("generation", "events")]
        records.begin_attempt(generation.id, "w1", now())
        assert [client.ttl(key) for key in keys] == [-1, -1]
        records.record(generation.id, Cancelled(attempt=1, at=now()))
        assert all(0 < client.ttl(key) <= 77 for key in keys)

    def test_a_stream_keeps_the_latest_events(self, redis_url, client, log):
        records = RedisRecords(client, RedisSettings(url=redis_url, event_limit=10))
        generation = records.accept(make_generation(), None)
        records.begin_attempt(generation.id, "w1", now())
        for number in range(500):
            records.record(generation.id, step(1, number))
        kept = log.read(generation.id, None, 1000)
        assert len(kept) < 200
        assert kept[-1].event.step == 499


class TestCancel:
    def test_what_waits_is_cancelled_at_once(self, records, log, client, generation):
        other = records.accept(make_generation(), None)
        at = now()
        cancelled = records.request_cancel(generation.id, at)
        assert cancelled.status is Status.CANCELLED
        assert cancelled.finished_at == at
        assert events(log, generation) == ["queued", "cancelled"]
        assert client.lrange(queue_key(MODEL, "normal"), 0, -1) == [other.id]
        assert not client.exists(job_key(generation.id))

    def test_what_runs_is_marked_for_its_worker(self, records, log, generation):
        records.begin_attempt(generation.id, "w1", now())
        marked = records.request_cancel(generation.id, now())
        assert (marked.status, marked.cancel_requested) == (Status.RUNNING, True)
        assert events(log, generation) == ["queued", "started"]

    def test_what_is_final_stays_as_it_is(self, records, log, generation):
        first = records.request_cancel(generation.id, now())
        assert records.request_cancel(generation.id, now()) == first
        assert events(log, generation) == ["queued", "cancelled"]

    def test_the_unknown_cannot_be_cancelled(self, records, client):
        with pytest.raises(GenerationNotFound):
            records.request_cancel("unknown", now())
        assert client.keys("*") == []

    def test_a_race_with_a_worker_ends_one_way_or_the_other(self, records, log):
        for _ in range(30):
            generation = records.accept(make_generation(), None)
            with ThreadPoolExecutor(2) as pool:
                begin = pool.submit(records.begin_attempt, generation.id, "w1", now())
                cancel = pool.submit(records.request_cancel, generation.id, now())
            if begin.result() is None:
                assert cancel.result().status is Status.CANCELLED
                assert events(log, generation) == ["queued", "cancelled"]
            else:
                assert records.get(generation.id).cancel_requested
                assert events(log, generation) == ["queued", "started"]


class TestList:
    def test_pages_hold_everything_once_newest_first(self, records):
        ids = [records.accept(make_generation(), None).id for _ in range(7)]
        seen, cursor = [], None
        while True:
            page = records.list(status=None, cursor=cursor, limit=3)
            seen += [generation.id for generation in page.generations]
            cursor = page.next_cursor
            if cursor is None:
                break
            records.accept(make_generation(), None)  # newcomers do not shift the pages
        assert seen == sorted(ids, reverse=True)

    def test_a_full_last_page_promises_no_other(self, records, generation):
        page = records.list(status=None, cursor=None, limit=1)
        assert page.generations == (generation,)
        assert page.next_cursor is None

    def test_the_status_filter_follows_every_move(self, records, generation):
        def found(status):
            return [g.id for g in records.list(status=status, cursor=None, limit=9).generations]

        for move, status in (
            (lambda: None, Status.QUEUED),
            (lambda: records.begin_attempt(generation.id, "w", now()), Status.RUNNING),
            (lambda: records.record(generation.id, Queued(attempt=1, at=now())), Status.QUEUED),
            (lambda: records.request_cancel(generation.id, now()), Status.CANCELLED),
        ):
            move()
            assert {s: found(s) for s in Status if found(s)} == {status: [generation.id]}

    def test_expired_records_leave_no_hole(self, records, client):
        kept, gone = (records.accept(make_generation(), None) for _ in range(2))
        client.delete(f"hidiffusion:generation:{gone.id}")
        assert records.list(status=None, cursor=None, limit=9).generations == (kept,)


def test_deleting_leaves_nothing(records, client):
    client.flushall()
    generation = records.accept(make_generation(), IdempotencyClaim("key", "print"))
    records.begin_attempt(generation.id, "w1", now())
    records.record(generation.id, Cancelled(attempt=1, at=now()))
    records.delete(generation.id)
    records.delete(generation.id)
    shared = {
        "rq:queues",
        "hidiffusion:shares",
        "hidiffusion:virtual-time",
        "hidiffusion:condemned",
    }
    assert {*client.keys("*")} <= shared
    with pytest.raises(GenerationNotFound):
        records.get(generation.id)


def test_every_call_without_redis_is_unavailable():
    records = records_at(f"redis://127.0.0.1:{free_port()}/0")
    for call in (
        lambda: records.get("g"),
        lambda: records.list(status=None, cursor=None, limit=1),
        lambda: records.begin_attempt("g", "w", now()),
        lambda: records.record("g", step(1)),
        lambda: records.request_cancel("g", now()),
        lambda: records.delete("g"),
        records.workers,
        lambda: records.queue_depth(MODEL),
        records.ping,
    ):
        with pytest.raises(Unavailable, match="redis"):
            call()


@pytest.mark.parametrize(("asked", "longest"), [(5, 5), (10_000, 77)])
def test_a_request_may_end_its_record_earlier_but_not_later(redis_url, client, asked, longest):
    records = RedisRecords(client, RedisSettings(url=redis_url, record_ttl_seconds=77))
    generation = make_generation().model_copy(update={"expires_in_seconds": asked})
    records.accept(generation, None)
    keys = (f"hidiffusion:generation:{generation.id}", f"hidiffusion:events:{generation.id}")
    assert [client.ttl(key) for key in keys] == [-1, -1]
    records.request_cancel(generation.id, now())
    assert all(longest - 5 < client.ttl(key) <= longest for key in keys)
    assert records.get(generation.id).expires_in_seconds == asked
