"""Start and stop: both front ends together, in a process of their own."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1 import generation_service_pb2_grpc as stubs
from service.api.serve import listen

PROGRAM = """
import sys, uvloop
from service.api.serve import serve
from service.settings import ApiSettings, StoreSettings
from service.storage.store import open_store
from tests.service.api.stack import use_cases

redis_url, folder, port = sys.argv[1:]
cases, _ = use_cases(redis_url, open_store(StoreSettings(url=f"file://{folder}")))
settings = ApiSettings(http_port=int(port), grpc_port=0)
def ready(endpoints):
    print(endpoints.http_url, endpoints.grpc_address, flush=True)
uvloop.run(serve(settings, cases, ready))
"""


def _command(redis_url: str, folder: Path, port: int = 0) -> list[str]:
    return [sys.executable, "-c", PROGRAM, redis_url, str(folder), str(port)]


@pytest.fixture
def process(redis_url: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The front ends in a process of their own."""
    with subprocess.Popen(
        _command(redis_url, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        yield running
        running.kill()


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_sigterm_ends_streams_so_that_clients_resume_elsewhere(
    process: subprocess.Popen[str],
) -> None:
    assert process.stdout is not None
    http_url, grpc_address = process.stdout.readline().split()
    with httpx.Client(base_url=http_url) as http, grpc.insecure_channel(grpc_address) as channel:
        generation_id = http.post("/v1/generations", json={"prompt": "a fox"}).json()["id"]
        watch = stubs.GenerationServiceStub(channel).WatchGeneration(
            rpc.WatchGenerationRequest(id=generation_id)
        )
        next(watch)
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(health).status == health_pb2.HealthCheckResponse.SERVING
        streamed: list[str] = []
        opened = threading.Event()

        def follow() -> None:
            with http.stream("GET", f"/v1/generations/{generation_id}/events") as response:
                for line in response.iter_lines():
                    streamed.append(line)
                    opened.set()

        follower = threading.Thread(target=follow)
        follower.start()
        assert opened.wait(10)
        process.send_signal(signal.SIGTERM)

        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
        follower.join(10)

    assert process.wait(15) == 0
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert ": interrupted: server is not available; retry in 1 s" in streamed


def test_taken_port_is_told_at_once(redis_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            _command(redis_url, tmp_path, port),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert ended.returncode != 0
    assert "Address already in use" in ended.stderr
