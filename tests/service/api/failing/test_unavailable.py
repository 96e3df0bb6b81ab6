"""Redis or the store is gone: told so, with a time to come back, and nothing half-accepted."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx_sse
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from service.application.generations import readiness
from service.settings import StoreSettings
from tests.servers import RedisServer
from tests.service.api.stack import Stack, running_stack


@pytest.fixture
def lone_stack(
    own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stack]:
    """A service whose Redis may be stopped; readiness is looked at anew by everybody who asks."""
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0.0)
    store = StoreSettings(url=(tmp_path / "store").as_uri())
    with running_stack(own_redis.url, store) as running:
        yield running


def test_nothing_is_accepted_while_redis_is_gone(lone_stack: Stack, own_redis: RedisServer) -> None:
    before = lone_stack.submit()
    own_redis.stop()

    post = lone_stack.http.post("/v1/generations", json={"prompt": "a fox"})
    get = lone_stack.http.get(f"/v1/generations/{before}")
    events = lone_stack.http.get(f"/v1/generations/{before}/events")
    ready = lone_stack.http.get("/readyz")
    with pytest.raises(grpc.RpcError) as caught:
        lone_stack.stub.CreateGeneration(rpc.CreateGenerationRequest(prompt="a fox"), timeout=10)
    alive = lone_stack.http.get("/healthz")
    own_redis.start()

    for response in (post, get, events, ready):
        assert response.status_code == 503
        assert response.json()["type"] == "/problems/unavailable"
        assert int(response.headers["retry-after"]) > 0
        assert str(own_redis.port) not in response.text
    _check_status(caught.value)
    assert alive.status_code == 200
    assert lone_stack.count() == 1
    assert lone_stack.http.get(f"/v1/generations/{before}").status_code == 200


def _check_status(error: grpc.RpcError) -> None:
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    status = rpc_status.from_call(error)
    assert status is not None
    retry, info = RetryInfo(), ErrorInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert any(detail.Unpack(info) for detail in status.details)
    assert retry.retry_delay.seconds > 0
    assert info.reason == "UNAVAILABLE"


def test_stream_that_loses_redis_ends_and_resumes_without_loss(
    lone_stack: Stack, own_redis: RedisServer
) -> None:
    generation_id = lone_stack.submit()
    path = f"/v1/generations/{generation_id}/events"
    names = []
    with httpx_sse.connect_sse(lone_stack.http, "GET", path) as source:
        for event in source.iter_sse():
            if event.event == "queued":
                last = event.id
                names.append(event.event)
                own_redis.stop()
    own_redis.start()
    lone_stack.worker.run(generation_id)

    headers = {"Last-Event-ID": last}
    with httpx_sse.connect_sse(lone_stack.http, "GET", path, headers=headers) as source:
        names += [event.event for event in source.iter_sse() if event.data]

    assert names == [
        "queued", "started", "step", "step", "step", "preview", "tile", "tile", "succeeded",
    ]  # fmt: skip


def test_store_that_is_gone_is_not_ready(lone_stack: Stack) -> None:
    assert lone_stack.http.get("/readyz").status_code == 200
    shutil.rmtree(lone_stack.store_folder)

    response = lone_stack.http.get("/readyz")

    assert response.status_code == 503
    assert "store" in response.json()["detail"]
    assert str(lone_stack.store_folder) not in response.text


def test_accepted_request_stays_accepted_when_redis_is_lost_while_waiting(
    lone_stack: Stack, own_redis: RedisServer
) -> None:
    def stop_once_accepted() -> None:
        while not lone_stack.count():
            time.sleep(0.01)
        own_redis.stop()

    stopper = threading.Thread(target=stop_once_accepted)
    stopper.start()
    response = lone_stack.http.post(
        "/v1/generations", json={"prompt": "a fox"}, headers={"Prefer": "wait=2"}
    )
    stopper.join()
    own_redis.start()

    assert response.status_code == 202
    kept = lone_stack.http.get(response.headers["location"])
    assert kept.json()["id"] == response.json()["id"]
