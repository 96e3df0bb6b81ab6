"""Start and stop: both front ends together, in a process of their own."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1 import generation_service_pb2_grpc as stubs
from service.api.grpc.former_names import SERVICE_NAME
from service.api.serve import listen

PROGRAM = """
import sys, uvloop
from service.api.serve import serve
from service.settings import ApiSettings, StoreSettings
from service.storage.store import open_store
from tests.service.api.stack import use_cases

redis_url, folder, port, drain_seconds = sys.argv[1:]
cases, _ = use_cases(redis_url, open_store(StoreSettings(url=f"file://{folder}")))
settings = ApiSettings(http_port=int(port), grpc_port=0, drain_seconds=float(drain_seconds))
def ready(endpoints):
    print(endpoints.http_url, endpoints.grpc_address, flush=True)
uvloop.run(serve(settings, cases, ready))
"""

INTERRUPTED = ": interrupted: server is not available; retry in 1 s"


def _command(redis_url: str, folder: Path, port: int = 0, drain_seconds: float = 0) -> list[str]:
    given = (redis_url, str(folder), str(port), str(drain_seconds))
    return [sys.executable, "-c", PROGRAM, *given]


@pytest.fixture
def process(
    redis_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[subprocess.Popen[str]]:
    """The front ends in a process of their own, which drains for as long as the test says."""
    command = _command(redis_url, tmp_path, drain_seconds=request.param)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        yield running
        running.kill()


class _Follower:
    """Reads a generation's event stream to its end."""

    def __init__(self, http: httpx.Client, generation_id: str) -> None:
        self.lines: list[str] = []
        self._opened = threading.Event()
        self._path = f"/v1/generations/{generation_id}/events"
        self._http = http
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()
        assert self._opened.wait(10)

    def _follow(self) -> None:
        with self._http.stream("GET", self._path) as response:
            for line in response.iter_lines():
                self.lines.append(line)
                if line.startswith("id:"):
                    self._opened.set()

    def to_the_end(self) -> list[str]:
        """Every line, once there are no more."""
        self._thread.join(20)
        return self.lines


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("process", [0.2], indirect=True)
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
        follower = _Follower(http, generation_id)
        process.send_signal(signal.SIGTERM)

        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
        streamed = follower.to_the_end()

    assert process.wait(15) == 0
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    status = rpc_status.from_call(caught.value)
    assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)
    assert INTERRUPTED in streamed


@pytest.mark.parametrize("process", [600.0], indirect=True)
def test_a_process_that_drains_is_unready_and_serves_on(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    http_url, grpc_address = process.stdout.readline().split()
    with httpx.Client(base_url=http_url) as http, grpc.insecure_channel(grpc_address) as channel:
        assert http.get("/readyz").status_code == 200
        first = http.post("/v1/generations", json={"prompt": "a fox"}).json()["id"]
        before = _Follower(http, first)
        asked = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
        health = health_pb2_grpc.HealthStub(channel).Watch(asked)
        while next(health).status != health_pb2.HealthCheckResponse.SERVING:
            pass
        process.send_signal(signal.SIGTERM)

        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        unready = http.get("/readyz")
        assert (unready.status_code, unready.headers["retry-after"]) == (503, "1")
        assert http.get("/healthz").status_code == 200
        accepted = http.post("/v1/generations", json={"prompt": "an owl"})
        assert (accepted.status_code, accepted.headers["connection"]) == (202, "close")
        during = _Follower(http, accepted.json()["id"])
        stub = stubs.GenerationServiceStub(channel)
        assert stub.GetGeneration(rpc.GetGenerationRequest(id=first)).generation.id == first
        assert INTERRUPTED not in before.lines

        with ThreadPoolExecutor(1) as pool:
            wait = {"prefer": "wait=60"}
            asking = pool.submit(
                http.post, "/v1/generations", json={"prompt": "a bear"}, headers=wait, timeout=70
            )
            while len(http.get("/v1/generations").json()["generations"]) < 3:
                pass
            process.send_signal(signal.SIGTERM)
            assert asking.result().status_code == 202
        ended = (before.to_the_end(), during.to_the_end())

    assert process.wait(15) == 0
    assert all(INTERRUPTED in lines for lines in ended)


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
