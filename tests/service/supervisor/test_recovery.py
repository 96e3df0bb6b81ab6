"""Sweeps over what a dead worker left in a real Redis."""

import pytest

from service.application.ports import WorkerInfo
from service.domain.errors import Unavailable
from service.domain.generations.generation import Status
from service.events.connection import connect
from service.events.stream import RedisEventLog
from service.records.attempts import Attempts
from service.records.keys import (
    BACKLOG,
    ENDED,
    LEASES,
    index_key,
    line_key,
    queue_key,
    record_key,
)
from service.records.records import RedisRecords
from service.settings import RedisSettings
from service.supervisor.recovery import BATCH, Recovery
from tests.generations import MODEL, make_generation, now
from tests.servers import free_port


@pytest.fixture
def recovery(attempts):
    """Everything without a sign of life at this very moment is silent."""
    return Recovery(attempts, silence_seconds=0.0)


@pytest.fixture
def waiting(records):
    return records.accept(make_generation(), None)


@pytest.fixture
def running(records, waiting):
    return records.begin_attempt(waiting.id, "dead", now())


@pytest.fixture
def client(records):
    return records.redis


def test_a_silent_attempt_is_queued_again_by_the_second_sweep(records, recovery, running):
    recovery.sweep()
    assert records.get(running.id).status is Status.RUNNING
    recovery.sweep()
    assert records.get(running.id).status is Status.QUEUED
    assert records.queue_depth(MODEL) == 1
    assert records.begin_attempt(running.id, "w2", now()).attempt == 2


def test_a_live_attempt_is_left_alone(records, attempts, running):
    recovery = Recovery(attempts, silence_seconds=60)
    for _ in range(3):
        recovery.sweep()
    assert records.get(running.id).status is Status.RUNNING


def test_one_that_speaks_between_two_sweeps_is_left_alone(records, attempts, running, client):
    recovery = Recovery(attempts, silence_seconds=60)
    client.zadd(LEASES, {running.id: 0})
    recovery.sweep()
    attempts.touch(running.id, 1)
    recovery.sweep()
    assert records.get(running.id).status is Status.RUNNING


def test_workers_that_sweep_together_count_one_loss(records, attempts, running, redis_url):
    sweepers = [Recovery(attempts, silence_seconds=0.0) for _ in range(5)]
    for _ in range(3):
        for sweeper in sweepers:
            sweeper.sweep()
    told = [stored.event.type for stored in RedisEventLog(redis_url).read(running.id, None, 99)]
    assert told == ["queued", "started", "queued"]
    assert records.queue_depth(MODEL) == 1


def test_three_dead_workers_fail_it(records, recovery, waiting):
    for _ in range(3):
        records.begin_attempt(waiting.id, "dead", now())
        recovery.sweep()
        recovery.sweep()
    assert records.get(waiting.id).status is Status.FAILED
    assert "its worker fell silent" in records.get(waiting.id).error.detail


def test_silent_and_to_be_cancelled_it_is_cancelled(records, recovery, running):
    records.request_cancel(running.id, now())
    recovery.sweep()
    recovery.sweep()
    assert records.get(running.id).status is Status.CANCELLED


def test_a_record_that_cannot_be_looked_after_stops_nobody_elses_recovery(
    records, recovery, running, client
):
    odd = [make_generation().model_copy(update={"id": f"{number:026}"}) for number in range(2)]
    for each in odd:
        records.accept(each, None)
    records.begin_attempt(odd[0].id, "dead", now())
    client.hset(record_key(odd[0].id), "losses", "not JSON")
    client.zrem(line_key(MODEL, ""), odd[1].id)
    client.hdel(record_key(odd[1].id), "queue")
    lost = records.accept(make_generation(), None)
    client.zrem(line_key(MODEL, ""), lost.id)
    for _ in range(2):
        recovery.sweep()
    assert records.get(running.id).status is Status.QUEUED
    assert client.zscore(line_key(MODEL, ""), lost.id) is not None


def test_the_end_of_a_record_that_is_deleted_meanwhile_is_not_noted(records, attempts, client):
    ended = records.accept(make_generation(), None)
    records.request_cancel(ended.id, now())
    client.delete(ENDED)
    records.redis = Deleting(records, ended.id)
    Recovery(attempts, silence_seconds=0.0).sweep()
    assert client.zcard(ENDED) == 0


class Deleting:
    """A client of Redis by which a generation is deleted as soon as the time is asked for twice.

    A sweep asks for it before it looks, and once more before it writes.
    """

    def __init__(self, records, generation_id):
        self._client, self._asked = records.redis, 0
        self._delete = lambda: records.delete(generation_id)

    def __getattr__(self, name):
        return getattr(self._client, name)

    def time(self):
        self._asked += 1
        if self._asked == 2:
            self._delete()
        return self._client.time()


def test_a_lease_without_a_record_is_dropped(recovery, client):
    client.zadd(LEASES, {"gone": 0})
    recovery.sweep()
    recovery.sweep()
    assert client.zcard(LEASES) == 0


def test_what_waits_and_is_in_no_line_is_put_back_in_its_place(records, recovery, waiting, client):
    """As a version that knows no lines leaves it."""
    other = records.accept(make_generation(), None)
    client.zrem(line_key(MODEL, ""), waiting.id)
    client.delete(BACKLOG + MODEL)
    recovery.sweep()
    (line,) = records.lines.of([MODEL])
    assert [one.id for one in line.waiting] == [waiting.id, other.id]
    assert records.queue_depth(MODEL) == 2


def test_an_emptied_queue_fills_again(records, recovery, client):
    accepted = [records.accept(make_generation(model=model), None) for model in ("fox", "owl")]
    for model in ("fox", "owl"):
        client.delete(line_key(model, ""), BACKLOG + model, queue_key(model, "normal"))
    recovery.sweep()
    lines = [records.lines.of([model])[0].waiting[0].id for model in ("fox", "owl")]
    assert lines == [g.id for g in accepted]
    assert [records.queue_depth(model) for model in ("fox", "owl")] == [1, 1]


def test_what_is_begun_meanwhile_is_not_put_back(records, recovery, waiting):
    records.begin_attempt(waiting.id, "slow", now())
    recovery.sweep()
    assert records.lines.of([MODEL]) == []
    assert records.queue_depth(MODEL) == 0


def test_indexes_forget_records_that_are_gone_and_workers_that_are_silent(
    records, attempts, recovery, waiting, client
):
    gone = records.accept(make_generation(), None)
    client.delete(record_key(gone.id))
    attempts.report(WorkerInfo("dead", "idle", (), (), 0), 60)
    client.delete("hidiffusion:worker:dead")
    recovery.sweep()
    assert client.zrange(index_key("all"), 0, -1) == [waiting.id]
    assert client.zrange(index_key("queued"), 0, -1) == [waiting.id]
    assert client.smembers("hidiffusion:workers") == set()


@pytest.mark.parametrize("known", [True, False], ids=["indexed", "by the audit"])
def test_what_has_ended_leaves_every_index_and_its_tenant_none(records, recovery, client, known):
    mine = make_generation().model_copy(update={"tenant": "acme"})
    records.accept(mine, None)
    records.request_cancel(mine.id, now())
    if not known:  # as an older version ends them
        client.delete(ENDED)
        recovery.sweep()
    ((member, _),) = client.zrange(ENDED, 0, -1, withscores=True)
    recovery.sweep()
    assert client.zcard(index_key("all", "acme")) == 1
    client.zadd(ENDED, {member: 0})
    recovery.sweep()
    assert client.zcard(index_key("all", "acme")) == 1, "its record has not ended yet"
    client.delete(record_key(mine.id))
    client.zadd(ENDED, {member: 0})
    recovery.sweep()
    assert client.keys("hidiffusion:index:*") == []
    assert client.zcard(ENDED) == 0


def test_a_step_costs_the_same_however_many_tenants_there_are(records, recovery, client):
    def commands() -> int:
        client.config_resetstat()
        recovery.sweep()
        stats = client.info("commandstats")
        return sum(each["calls"] for name, each in stats.items() if name != "cmdstat_info")

    def accept(tenants: int) -> None:
        for number in range(tenants):
            mine = make_generation().model_copy(update={"tenant": f"t{number}"})
            records.accept(mine, None)
            records.begin_attempt(mine.id, "w", now())
            client.zrem(LEASES, mine.id)

    accept(5)
    few = commands()
    accept(300)
    recovery.sweep()  # one round of the audit
    many = commands()
    assert many <= few + 3 * BATCH


def test_without_redis_a_sweep_says_so():
    url = f"redis://127.0.0.1:{free_port()}/0"
    records = RedisRecords(connect(url), RedisSettings(url=url))
    with pytest.raises(Unavailable):
        Recovery(Attempts(records, 3), 1.0).sweep()
