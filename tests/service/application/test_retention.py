"""Sweeps by index: a real Redis knows what has to go, and no list of a store is ever made."""

from pathlib import Path

import pytest

from service.application.generations.retention import SweepStore, Swept
from service.application.ports import ObjectStore
from service.application.sources.uploads import Uploads
from service.bootstrap import SystemClock
from service.domain.artifacts import ArtifactKeys, attempt_of
from service.domain.generations.events import Queued, Succeeded
from service.domain.generations.generation import Generation
from service.domain.requests.uploads import Picture
from service.events.connection import connect
from service.records.attempts import Attempts
from service.records.keys import ENDED, UPLOADS_UNTIL, record_key, upload_key
from service.records.records import RedisRecords
from service.records.retention import RedisRetained
from service.records.uploads import RedisUploads
from service.settings import RedisSettings, StoreSettings
from service.storage.store import open_store
from service.supervisor.recovery import Recovery
from tests.generations import make_generation, make_manifest, now


@pytest.fixture
def records(redis_url: str) -> RedisRecords:
    return RedisRecords(connect(redis_url), RedisSettings(url=redis_url))


class Listless:
    """A store that tells when somebody lists more of it than one generation or upload."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def delete_prefix(self, prefix: str) -> int:
        assert prefix.count("/") >= 2, "this lists every generation there is"
        return self.store.delete_prefix(prefix)


class Scene:
    def __init__(self, records: RedisRecords, folder: Path, spread: bool) -> None:
        self.records = records
        self.spread = spread
        self.store = open_store(StoreSettings(url=folder.as_uri()))
        self._recovery = Recovery(Attempts(records, 3), 60)

    def sweep(self, *, max_bytes: int | None = None, grace_seconds: float = 0) -> Swept:
        self._recovery.sweep()
        sweep = SweepStore(
            Listless(self.store),  # type: ignore[arg-type]
            RedisRetained(self.records),
            budget=lambda _: max_bytes,
            grace_seconds=grace_seconds,
        )
        return sweep()

    def finished(self, attempts: int = 1) -> Generation:
        """A result of 100 bytes, with what each of its attempts has left."""
        generation = self.records.accept(make_generation(), None)
        for attempt in range(1, attempts + 1):
            self.records.begin_attempt(generation.id, f"w{attempt}", now())
            keys = ArtifactKeys(generation.id, attempt, spread=self.spread)
            self.store.put(keys.tile(0, 0, 0, "png"), b"0" * 100, "image/png")
            self.store.put(keys.checkpoint, b"0", "application/octet-stream")
            if attempt < attempts:
                self.records.record(generation.id, Queued(attempt=attempt, at=now(), reason="lost"))
        manifest = make_manifest(generation, attempts).model_copy(update={"stored_bytes": 100})
        done = Succeeded(attempt=attempts, at=now(), manifest=manifest)
        assert self.records.record(generation.id, done)
        return generation

    def left(self) -> set[str]:
        found = map(attempt_of, self.store.keys("generations/"))
        return {each[0] for each in found if each}


@pytest.fixture(params=[False, True], ids=["plain keys", "spread keys"])
def scene(records: RedisRecords, tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    return Scene(records, tmp_path, request.param)


def test_of_a_result_only_what_readers_can_reach_stays(scene: Scene) -> None:
    generation = scene.finished(attempts=2)
    assert scene.sweep(grace_seconds=60).objects == 0
    assert scene.sweep().objects == 3
    keys = ArtifactKeys(generation.id, 2, spread=scene.spread)
    assert scene.store.keys("generations/") == [keys.tile(0, 0, 0, "png")]


def test_what_was_deleted_goes_after_the_grace_period(scene: Scene) -> None:
    generation = scene.finished()
    scene.records.delete(generation.id)
    assert scene.sweep(grace_seconds=60).objects == 0
    assert scene.sweep() == Swept(records=0, objects=2, kept_bytes=0)
    assert scene.left() == set()


def test_what_has_expired_goes_without_anybody_looking_for_it(scene: Scene) -> None:
    gone, kept = scene.finished(), scene.finished()
    client = scene.records.redis
    client.delete(record_key(gone.id))
    client.zadd(ENDED, {f"/succeeded/{gone.id}": 0})
    scene.sweep()
    assert scene.left() == {kept.id}


def test_over_budget_the_oldest_go_first_and_only_as_many_as_needed(scene: Scene) -> None:
    oldest, middle, newest = (scene.finished() for _ in range(3))
    assert scene.sweep(max_bytes=300).records == 0
    assert scene.sweep(max_bytes=200) == Swept(records=1, objects=1, kept_bytes=200)
    assert scene.left() == {middle.id, newest.id}
    assert [one.id for one in scene.records.fetch([oldest.id, middle.id])] == [middle.id]


class _Anything:
    """Takes any bytes for a picture: here only how long they are kept matters."""

    def __call__(self, data: bytes, *, ours: bool = False) -> Picture:  # noqa: ARG002
        return Picture(data, 8, 8)

    def clear_parts(self, picture: Picture) -> None:
        del picture


def test_an_upload_goes_when_it_has_expired_but_not_from_under_a_generation(scene: Scene) -> None:
    records, client = scene.records, scene.records.redis
    uploads = Uploads(
        RedisUploads(client), scene.store, _Anything(), SystemClock(), 60, tenant="acme"
    )
    kept, used, expired = (uploads.add(data) for data in (b"kept", b"used", b"expired"))
    assert RedisRetained(records).stored_bytes() == len(b"keptusedexpired")
    waiting = make_generation().model_copy(update={"inputs": {used.id: used.key}})
    records.accept(waiting, None)
    for upload in (used, expired):
        client.delete(upload_key(upload.id, "acme"))
        client.zadd(UPLOADS_UNTIL, {upload.key: 0})
    scene.sweep()
    assert set(scene.store.keys("uploads/")) == {kept.key, used.key}

    records.request_cancel(waiting.id, now())
    client.zadd(UPLOADS_UNTIL, {used.key: 0})
    scene.sweep()
    assert scene.store.keys("uploads/") == [kept.key]
    uploads.delete(kept.id)
    scene.sweep()
    assert scene.store.keys("uploads/") == []
