"""Restore Redis and the store from backups of different times, by docs/operations/backup.md."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from service import bootstrap
from service.application.generations.query import Query
from service.application.generations.retention import SweepStore
from service.application.generations.store_scan import ScanStore
from service.application.ports import ObjectStore
from service.domain.artifacts import Pyramid, PyramidLevel
from service.domain.errors import ArtifactNotFound, NotFound
from service.domain.generations.generation import Generation, Status
from service.events.connection import connect
from service.records.attempts import Attempts
from service.records.queue.outbox import RedisWebhooks
from service.records.records import RedisRecords
from service.records.retention import RedisRetained
from service.settings import RedisSettings, Settings, StoreSettings
from service.storage.store import open_store
from service.supervisor.recovery import Recovery
from tests.generations import make_generation
from tests.servers import RedisServer, redis_cli
from tests.service.api.played_worker import PlayedWorker
from tests.service.api.stack import CATALOG

TILES = Pyramid(
    tile_size=256,
    overlap=1,
    format="png",
    levels=(PyramidLevel(level=9, width=512, height=256, columns=2, rows=1),),
)


@dataclass(frozen=True)
class _Service:
    """What is behind the front ends, over one Redis and one folder."""

    settings: Settings
    records: RedisRecords
    store: ObjectStore

    @property
    def worker(self) -> PlayedWorker:
        return PlayedWorker(self.records, self.store)

    def accept(self) -> str:
        return self.records.accept(make_generation(model="emoji"), None).id

    def finish(self, generation: Generation) -> None:
        self.worker.tile(generation, 0, b"tile zero", done=1)
        self.worker.tile(generation, 1, b"tile one", done=2)
        self.worker.succeed(generation, pyramid=TILES)

    def draw(self, generation_id: str) -> None:
        self.finish(self.worker.start(generation_id))

    def shows(self, generation_id: str) -> bool:
        """Whether a client gets the picture, and then every tile of it."""
        query = Query(lambda: CATALOG, self.records, self.store, RedisWebhooks(self.records.redis))
        try:
            image = query.image(generation_id)
        except (ArtifactNotFound, NotFound):
            return False
        assert query.read(image)
        for column in (0, 1):
            assert query.read(query.tile(generation_id, 9, column, 0, "png"))
        return True

    def statuses(self) -> dict[str, Status]:
        page = self.records.list(status=None, cursor=None, limit=100)
        return {each.id: each.status for each in page.generations}


@contextmanager
def _service(server: RedisServer, folder: Path) -> Iterator[_Service]:
    settings = Settings(
        redis=RedisSettings(url=server.url), store=StoreSettings(url=folder.as_uri())
    )
    client = connect(server.url)
    yield _Service(settings, RedisRecords(client, settings.redis), open_store(settings.store))
    client.close()


@contextmanager
def _restored(dump: Path, folder: Path) -> Iterator[RedisServer]:
    """A new Redis from a dump: read without the append-only file, then made to write one."""
    folder.mkdir()
    shutil.copy(dump, folder / "dump.rdb")
    server = RedisServer(folder)
    server.start()
    with redis.Redis(port=server.port) as client:
        client.config_set("appendonly", "yes")
        while client.info("persistence")["aof_rewrite_in_progress"]:
            pass
    server.stop()
    again = RedisServer(folder, append_only=True)
    again.start()
    yield again
    again.stop()


def _back_up(server: RedisServer, file: Path) -> Path:
    command = [redis_cli(), "-p", str(server.port), "--rdb", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file


def test_an_earlier_redis_with_a_later_store(own_redis: RedisServer, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with _service(own_redis, store) as before:
        kept, purged, running, waiting = (before.accept() for _ in range(4))
        before.draw(kept)
        before.draw(purged)
        attempt = before.worker.start(running)
        dump = _back_up(own_redis, tmp_path / "backup.rdb")
        before.finish(attempt)
        before.draw(waiting)
        later = before.accept()
        before.draw(later)
        before.records.delete(purged)
        before.store.delete_prefix(f"generations/{purged}/")
        own_redis.stop()

    with _restored(dump, tmp_path / "restored") as server, _service(server, store) as after:
        recovery = Recovery(Attempts(after.records, max_losses=3), silence_seconds=0)
        for _ in range(2):
            recovery.sweep()
        expected = {kept: Status.SUCCEEDED, purged: Status.SUCCEEDED}
        expected |= {running: Status.QUEUED, waiting: Status.QUEUED}
        assert after.statuses() == expected
        assert {each for each in expected if after.shows(each)} == {kept}

        assert [each.id for each in bootstrap.verify(after.settings)] == [purged]
        assert [each.id for each in bootstrap.verify(after.settings, forget=True)] == [purged]
        for each in (running, waiting):
            after.draw(each)
        assert after.statuses() == dict.fromkeys((kept, running, waiting), Status.SUCCEEDED)
        assert all(map(after.shows, (kept, running, waiting)))

        retained = RedisRetained(after.records)
        for kind in (SweepStore, ScanStore):
            kind(after.store, retained, budget=lambda _: None, grace_seconds=0)()
        assert {key.split("/")[1] for key in after.store.sizes("generations/")} == {
            kept,
            running,
            waiting,
        }


def test_a_later_redis_with_an_earlier_store(own_redis: RedisServer, tmp_path: Path) -> None:
    live, copy = tmp_path / "store", tmp_path / "copy"
    with _service(own_redis, live) as before:
        kept, half, waiting = (before.accept() for _ in range(3))
        before.draw(kept)
        attempt = before.worker.start(half)
        before.worker.tile(attempt, 0, b"tile zero")
        shutil.copytree(live, copy)
        before.finish(attempt)
        later = before.accept()
        before.draw(later)
        dump = _back_up(own_redis, tmp_path / "backup.rdb")
        own_redis.stop()

    with _restored(dump, tmp_path / "restored") as server, _service(server, copy) as after:
        assert {each for each in (kept, half, later) if after.shows(each)} == {kept}
        broken = bootstrap.verify(after.settings, forget=True)
        assert {each.id for each in broken} == {half, later}
        after.draw(waiting)
        assert after.statuses() == dict.fromkeys((kept, waiting), Status.SUCCEEDED)
        assert after.shows(kept)
        assert after.shows(waiting)
        assert bootstrap.verify(after.settings) == []


def test_a_result_that_lacks_one_tile_is_not_whole(redis_url: str, tmp_path: Path) -> None:
    settings = Settings(
        redis=RedisSettings(url=redis_url), store=StoreSettings(url=tmp_path.as_uri())
    )
    records, store = RedisRecords(connect(redis_url), settings.redis), open_store(settings.store)
    service = _Service(settings, records, store)
    whole, torn = service.accept(), service.accept()
    for each in (whole, torn):
        service.draw(each)
    lost = records.get(torn)
    store.delete_prefix(f"generations/{lost.id}/1/tiles_files/9/1_0")

    assert [each.id for each in bootstrap.verify(settings)] == [torn]
    with pytest.raises(ArtifactNotFound):
        service.shows(torn)
