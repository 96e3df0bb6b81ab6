"""The command line's client against real front ends, in good times and bad."""

import threading
import time
from pathlib import Path

import pytest

from service.application.ports import WorkerInfo
from service.cli.client import RequestFailedError, ServiceClient
from service.queue.attempts import Attempts
from service.settings import StoreSettings
from tests.servers import RedisServer
from tests.service.api.played_worker import IMAGE
from tests.service.api.stack import running_stack


def test_events_go_on_where_a_lost_redis_broke_them_off(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    store = StoreSettings(url=(tmp_path / "store").as_uri())
    (tmp_path / "store").mkdir()
    with (
        running_stack(own_redis.url, store) as stack,
        ServiceClient(stack.endpoints.http_url) as client,
    ):
        generation_id = client.create({"prompt": "a fox"})["id"]
        seen: list[str] = []

        def watch() -> None:
            seen.extend(kind for kind, _ in client.events(generation_id))

        watcher = threading.Thread(target=watch)
        watcher.start()
        own_redis.stop()
        time.sleep(1.0)
        own_redis.start()
        stack.worker.run(generation_id)
        watcher.join(30)

        assert seen[:2] == ["queued", "started"]
        assert seen[-1] == "succeeded"
        assert seen.count("step") == 3
        client.download(f"/v1/generations/{generation_id}/image", tmp_path / "image")
        assert (tmp_path / "image").read_bytes() == IMAGE


def test_the_service_is_not_ready_while_its_only_worker_still_loads(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    store = StoreSettings(url=(tmp_path / "store").as_uri())
    with running_stack(own_redis.url, store) as stack:
        loading = WorkerInfo("loading", "starting", ("emoji",), (), 0)
        Attempts(stack.records, max_losses=3).report(loading, ttl_seconds=60)
        response = stack.http.get("/readyz")
        assert response.status_code == 503
        assert "worker" in response.json()["detail"]
        stack.add_worker()
        assert stack.http.get("/readyz").status_code == 200


def test_a_service_that_is_not_there_is_named_with_the_way_out() -> None:
    with (
        ServiceClient("http://127.0.0.1:9") as client,
        pytest.raises(RequestFailedError, match="hidiffusion up"),
    ):
        client.create({"prompt": "a fox"})
