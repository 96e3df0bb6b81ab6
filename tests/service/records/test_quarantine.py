"""Records of another version: kept and told of, while everything else goes on."""

import json

import pytest
from typer.testing import CliRunner

from service.application.ports import WorkerInfo
from service.cli.app import app
from service.domain.errors import RecordUnreadable
from service.domain.generations.generation import Status
from service.domain.requests.request import RECORD_SCHEMA, ResolvedRequest
from service.events.stream import RedisEventLog
from service.records.attempts import Attempts
from service.records.codec import to_fields
from service.records.keys import record_key
from service.records.records import RedisRecords
from tests.generations import make_generation, now


def of_another_version(records: RedisRecords, **fields: object) -> str:
    """Accept a generation and put `fields` into its request, as a newer version would have."""
    generation = records.accept(make_generation(), None)
    key = record_key(generation.id)
    request = json.loads(records.redis.hget(key, "request")) | fields
    records.redis.hset(key, "request", json.dumps(request))
    return generation.id


@pytest.mark.parametrize(
    "fields",
    [
        {"output_format": "jxl"},
        {"upscaler": "new"},
        {"method": "newest"},
        {"method_options": {"newest": 1}},
    ],
)
def test_a_request_that_means_more_than_is_known_is_refused(records, fields):
    strange = of_another_version(records, **fields)
    with pytest.raises(RecordUnreadable, match=next(iter(fields))):
        records.get(strange)


@pytest.mark.parametrize("schema", [str(RECORD_SCHEMA + 1), "2b"])
def test_a_newer_schema_is_refused(records, schema):
    generation = records.accept(make_generation(), None)
    records.redis.hset(record_key(generation.id), "schema", schema)
    with pytest.raises(RecordUnreadable, match=schema):
        records.get(generation.id)


def test_a_record_of_before_there_were_schemas_is_read_with_its_defaults(records):
    generation = records.accept(make_generation(), None)
    key = record_key(generation.id)
    records.redis.hdel(key, "schema", "cancel_requested", "priority")
    records.redis.hset(key, "request", generation.request.model_dump_json())
    assert records.get(generation.id) == generation


def test_what_a_request_does_not_use_an_older_version_need_not_know():
    written = json.loads(to_fields(make_generation())["request"])
    needed = {name for name, field in ResolvedRequest.model_fields.items() if field.is_required()}
    assert written.keys() == needed


def test_what_was_asked_of_a_method_is_read_as_it_was_accepted(records):
    generation = make_generation()
    given = generation.request.method_options | {"t1_ratio": 0.5}
    asked = generation.request.model_copy(update={"method_options": given})
    accepted = records.accept(generation.model_copy(update={"request": asked}), None)
    written = json.loads(records.redis.hget(record_key(accepted.id), "request"))
    assert written["method_options"] == {"t1_ratio": 0.5}
    assert records.get(accepted.id).request.method_options == given


def test_lists_leave_out_what_cannot_be_read_and_tell_of_it(records):
    before = records.accept(make_generation(), None)
    strange = of_another_version(records, output_format="jxl")
    after = records.accept(make_generation(), None)
    page = records.list(status=Status.QUEUED, cursor=None, limit=10)
    assert [found.id for found in page.generations] == [after.id, before.id]
    (told,) = records.quarantine.entries()
    assert told.id == strange
    assert "output_format" in told.cause
    assert records.unreadable() == 1


def test_the_command_shows_what_cannot_be_read(records, redis_url, monkeypatch):
    monkeypatch.setenv("HIDIFFUSION_REDIS__URL", redis_url)
    told = CliRunner().invoke(app, ["quarantine"])
    assert (told.exit_code, told.output) == (0, "every record can be read\n")
    strange = of_another_version(records, output_format="jxl")
    records.fetch([strange])
    told = CliRunner().invoke(app, ["quarantine"])
    assert told.exit_code == 0
    assert strange in told.output
    assert "output_format" in told.output


def test_the_list_forgets_records_that_are_gone(records):
    strange = of_another_version(records, output_format="jxl")
    records.fetch([strange])
    records.delete(strange)
    assert records.quarantine.entries() == []
    assert records.unreadable() == 0


def test_workers_of_other_versions_are_counted_as_far_as_they_are_known(records, attempts):
    for name in ("newer", "garbled", "known"):
        attempts.report(WorkerInfo(name, "idle", ("fox",), (), 0), ttl_seconds=60)
    report = json.loads(records.redis.get("hidiffusion:worker:newer"))
    records.redis.set("hidiffusion:worker:newer", json.dumps(report | {"colour": "red"}))
    records.redis.set("hidiffusion:worker:garbled", "{")
    assert [worker.name for worker in records.workers()] == ["known", "newer"]


def test_an_event_that_cannot_be_read_is_passed_over(records, redis_url):
    generation = records.accept(make_generation(), None)
    key = f"hidiffusion:events:{generation.id}"
    strange = {"type": "succeeded", "attempt": "1", "at": now().isoformat(), "data": "{}"}
    records.redis.xadd(key, strange)
    events = RedisEventLog(redis_url).read(generation.id, None, 10)
    assert [stored.event.type for stored in events] == ["queued"]


def test_a_lost_attempt_needs_no_reading(records, attempts: Attempts):
    strange = of_another_version(records, output_format="jxl")
    records.redis.hset(record_key(strange), mapping={"status": "running", "attempt": "1"})
    assert attempts.lose(strange, 1, "its worker fell silent", now()) is not None
    assert records.redis.hget(record_key(strange), "status") == "queued"
