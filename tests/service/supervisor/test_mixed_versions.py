"""A worker between records of other versions: it leaves them alone and runs the rest."""

import json

from service.domain.generations.generation import Status
from service.events.connection import connect
from service.events.stream import RedisEventLog
from service.records.keys import record_key
from service.records.records import RedisRecords
from service.settings import RedisSettings
from tests.generations import make_generation
from tests.service.supervisor.waiting import wait_until


def _with_format(records: RedisRecords, generation_id: str, output_format: str) -> None:
    key = record_key(generation_id)
    request = json.loads(records.redis.hget(key, "request")) | {"output_format": output_format}
    records.redis.hset(key, "request", json.dumps(request))


def test_what_cannot_be_read_waits_for_an_upgrade_and_stops_nobody(redis_url, start_worker):
    records = RedisRecords(connect(redis_url), RedisSettings(url=redis_url))

    def status(generation_id: str) -> str:
        return str(records.redis.hget(record_key(generation_id), "status"))

    strange = records.accept(make_generation(), None).id
    _with_format(records, strange, "jxl")
    healthy = [records.accept(make_generation(each), None).id for each in ("linger", "paint")]
    worker = start_worker()
    wait_until(lambda: {*map(status, healthy)} == {Status.SUCCEEDED}, "the healthy jobs to end")
    stories = [RedisEventLog(redis_url).read(each, None, 500) for each in healthy]
    assert [sum(stored.event.type == "started" for stored in story) for story in stories] == [1, 1]
    assert len(worker.children) == 1, "the pipeline process was lost"
    assert worker.alive
    assert status(strange) == Status.QUEUED
    assert records.unreadable() == 1

    _with_format(records, strange, "png")
    start_worker()  # the upgrade: it knows nothing of what the other could not read
    wait_until(lambda: status(strange) == Status.SUCCEEDED, "what was set aside to run")
