"""Going through the whole store: a real Redis for the records, a real folder for the objects."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.application.generations.store_scan import ScanStore
from service.application.ports import ObjectStore
from service.application.sources.uploads import Uploads
from service.bootstrap import SystemClock
from service.domain.artifacts import ArtifactKeys
from service.domain.generations.events import Failed, Queued, Succeeded
from service.domain.generations.generation import Failure, Generation
from service.domain.requests.uploads import Picture
from service.events.connection import connect
from service.records.records import RedisRecords
from service.records.retention import RedisRetained
from service.records.uploads import RedisUploads
from service.settings import RedisSettings, StoreSettings
from service.storage.store import open_store
from tests.generations import make_generation, make_manifest, now

Sweep = Callable[..., int]


@pytest.fixture
def records(redis_url: str) -> RedisRecords:
    client = connect(redis_url)
    client.flushall()
    return RedisRecords(client, RedisSettings(url=redis_url))


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(StoreSettings(url=tmp_path.as_uri()))


@pytest.fixture
def sweep(records: RedisRecords, store: ObjectStore) -> Sweep:
    """Sweeps without a grace period unless told otherwise; returns the objects deleted."""

    def run(*, max_bytes: int | None = None, grace_seconds: float = 0) -> int:
        retained = RedisRetained(records)
        return ScanStore(
            store, retained, budget=lambda _: max_bytes, grace_seconds=grace_seconds
        )().objects

    return run


def _begun(records: RedisRecords, attempts: int = 1) -> Generation:
    """A generation that runs, after all attempts but the last were lost."""
    generation = records.accept(make_generation(), None)
    for attempt in range(1, attempts + 1):
        records.begin_attempt(generation.id, f"worker-{attempt}", now())
        if attempt < attempts:
            records.record(generation.id, Queued(attempt=attempt, at=now(), reason="lost"))
    return records.get(generation.id)


def _succeed(records: RedisRecords, generation: Generation) -> None:
    manifest = make_manifest(generation, generation.attempt)
    records.record(
        generation.id, Succeeded(attempt=generation.attempt, at=now(), manifest=manifest)
    )


def _write(
    store: ObjectStore, generation: Generation, attempt: int, *, spread: bool = False
) -> set[str]:
    """A whole result with a checkpoint, 50 bytes; returns the keys."""
    keys = ArtifactKeys(generation.id, attempt, spread=spread)
    tile = keys.tile(0, 0, 0, "png")
    store.put(tile, b"0" * 20, "image/png")
    store.put(keys.manifest, b"0" * 20, "application/json")
    store.put(keys.checkpoint, b"0" * 10, "application/octet-stream")
    return {tile, keys.manifest, keys.checkpoint}


def test_without_a_record_nothing_stays_but_only_after_the_grace_period(
    records: RedisRecords, store: ObjectStore, sweep: Sweep
) -> None:
    generation = _begun(records)
    _write(store, generation, 1)
    _write(store, generation, 1, spread=True)
    _succeed(records, generation)
    records.delete(generation.id)
    assert sweep(grace_seconds=60) == 0
    assert store.keys("generations/")
    assert sweep() == 6
    assert store.keys("generations/") == []
    shared = {
        "rq:queues",
        "hidiffusion:shares",
        "hidiffusion:virtual-time",
        "hidiffusion:condemned",
    }
    assert {*records.redis.keys("*")} <= shared


@pytest.mark.parametrize("spread", [False, True])
def test_of_a_finished_result_only_what_readers_can_reach_stays(
    records: RedisRecords, store: ObjectStore, sweep: Sweep, spread: bool
) -> None:
    generation = _begun(records, attempts=2)
    _write(store, generation, 1, spread=not spread)
    _write(store, generation, 2, spread=spread)
    _succeed(records, generation)
    assert sweep() == 4
    keys = ArtifactKeys(generation.id, 2, spread=spread)
    assert store.keys("generations/") == sorted([keys.manifest, keys.tile(0, 0, 0, "png")])


def test_what_runs_or_waits_keeps_all_its_attempts(
    records: RedisRecords, store: ObjectStore, sweep: Sweep
) -> None:
    running, waiting = _begun(records, attempts=2), _begun(records)
    records.record(waiting.id, Queued(attempt=1, at=now(), reason="lost"))
    written = _write(store, running, 1) | _write(store, running, 2) | _write(store, waiting, 1)
    assert sweep(max_bytes=0) == 0
    assert set(store.keys("generations/")) == written


def test_over_budget_the_oldest_go_first_and_only_as_many_as_needed(
    records: RedisRecords, store: ObjectStore, sweep: Sweep
) -> None:
    oldest, middle, failed, newest = (_begun(records) for _ in range(4))
    for generation in (oldest, middle, newest):
        _write(store, generation, 1)
        _succeed(records, generation)
    error = Failure(reason="OOM", detail="no room")
    records.record(failed.id, Failed(attempt=1, at=now(), error=error))
    sweep(max_bytes=100)
    ids = {key.split("/")[1] for key in store.keys("generations/")}
    assert ids == {middle.id, newest.id}
    assert {found.id for found in records.fetch([g.id for g in (oldest, middle, newest)])} == ids


def test_what_comes_back_from_the_dead_is_swept_again(
    records: RedisRecords, store: ObjectStore, sweep: Sweep
) -> None:
    generation = _begun(records, attempts=2)
    _write(store, generation, 2)
    _succeed(records, generation)
    sweep()
    _write(store, generation, 1)
    assert sweep() == 3


def test_other_keys_are_left_alone(store: ObjectStore, sweep: Sweep) -> None:
    store.put("generations/readme.json", b"{}", "application/json")
    store.put("elsewhere/1/1/x.json", b"{}", "application/json")
    assert sweep(max_bytes=0) == 0
    assert len(store.keys("")) == 2


def test_one_sweeper_at_a_time(records: RedisRecords) -> None:
    first, second = RedisRetained(records), RedisRetained(records)
    assert first.take_turn(60)
    assert not second.take_turn(60)


def _upload(records: RedisRecords, store: ObjectStore, *, tenant: str = "") -> Uploads:
    uploads = RedisUploads(records.redis)
    return Uploads(uploads, store, _Anything(), SystemClock(), 60, tenant=tenant)


class _Anything:
    """Takes any bytes for a picture: here only how long they are kept matters."""

    def __call__(self, data: bytes, *, ours: bool = False) -> Picture:  # noqa: ARG002
        return Picture(data, 8, 8)

    def clear_parts(self, picture: Picture) -> None:
        del picture


def test_an_upload_goes_when_it_has_expired_but_not_from_under_a_generation(
    records: RedisRecords, store: ObjectStore, sweep: Sweep
) -> None:
    mine, theirs = _upload(records, store), _upload(records, store, tenant="acme")
    kept, used, free = (mine.add(data) for data in (b"kept", b"used", b"free"))
    other = theirs.add(b"free")
    store.put("uploads/readme.json", b"{}", "application/json")
    waiting = make_generation().model_copy(update={"inputs": {used.id: used.key}})
    records.accept(waiting, None)
    for upload in (used, free):
        mine.delete(upload.id)

    assert sweep(grace_seconds=60) == 0
    assert sweep() == 1
    left = {kept.key, used.key, other.key, "uploads/readme.json"}
    assert set(store.keys("uploads/")) == left

    records.request_cancel(waiting.id, now())
    assert sweep() == 1
    assert set(store.keys("uploads/")) == left - {used.key}


def test_the_same_picture_after_it_expired_is_another_object(
    records: RedisRecords, store: ObjectStore, sweep: Sweep
) -> None:
    uploads = _upload(records, store)
    first = uploads.add(b"same")
    assert uploads.add(b"same").key == first.key
    uploads.delete(first.id)
    second = uploads.add(b"same")
    assert (second.id, second.key == first.key) == (first.id, False)
    assert sweep() == 1
    assert store.keys("uploads/") == [second.key]
