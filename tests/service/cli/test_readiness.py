"""What the processes say of themselves: ready for requests, well, or unable to start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from service.application.generations import readiness
from service.application.ports import WorkerInfo
from service.health import FOLDER_VARIABLE, answering, troubles
from service.records.attempts import Attempts
from service.settings import StoreSettings
from tests.servers import RedisServer
from tests.service.api.stack import Stack, running_stack


@pytest.fixture
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readiness is looked at anew by everybody who asks."""
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0.0)


@pytest.mark.usefixtures("always_looking")
def test_requests_are_accepted_without_a_worker_and_not_without_a_place_to_write(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    store = StoreSettings(url=(tmp_path / "store").as_uri())
    with running_stack(own_redis.url, store) as stack, redis.Redis(port=own_redis.port) as client:
        assert _ready(stack) == (200, "")
        loading = WorkerInfo("loading", "starting", ("emoji",), (), 0)
        Attempts(stack.records, max_losses=3).report(loading, ttl_seconds=60)
        response = stack.http.get("/readyz")
        assert [each["state"] for each in response.json()["workers"]] == ["starting"]

        client.config_set("maxmemory", "1")
        assert _ready(stack) == (503, "redis")
        client.config_set("maxmemory", "0")
        assert _ready(stack) == (200, "")
        client.replicaof("127.0.0.1", 1)
        assert _ready(stack) == (503, "redis")
        client.replicaof("NO", "ONE")
        assert _ready(stack) == (200, "")

        probe = stack.store_folder / "probe"
        (probe / "readiness").unlink()
        probe.rmdir()
        probe.touch()  # no folder can be made in its place, as on a disk that takes no more
        assert _ready(stack) == (503, "store")
        assert stack.http.get("/healthz").status_code == 200


def _ready(stack: Stack) -> tuple[int, str]:
    """The status of /readyz, and which dependency it names."""
    response = stack.http.get("/readyz")
    detail = response.json().get("detail", "")
    return response.status_code, detail.partition(" ")[0]


def test_a_crowd_that_asks_writes_once(redis_url: str, tmp_path: Path) -> None:
    with (
        running_stack(redis_url, StoreSettings(url=(tmp_path / "store").as_uri())) as stack,
        redis.Redis.from_url(redis_url) as client,
    ):
        stack.http.get("/readyz")
        before = client.info("commandstats")["cmdstat_set"]["calls"]
        for _ in range(50):
            stack.http.get("/readyz")
        assert client.info("commandstats")["cmdstat_set"]["calls"] - before < 50


def test_every_process_answers_for_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    command = [sys.executable, "-m", "service.health"]
    ill = ""

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "nothing that answers has started" in check().stderr
    with answering("api", lambda: ""):
        assert check().returncode == 0
        killed = "from service.health import *; import os\nwith answering('b', str): os._exit(0)"
        subprocess.run([sys.executable, "-c", killed], check=True)
        assert [each.partition(":")[0].partition("-")[0] for each in troubles(tmp_path)] == ["b"]
    with answering("worker", lambda: ill):  # which clears away what the killed one left
        assert check().returncode == 0
        ill = "no model loads"
        assert check().stderr == f"worker-{os.getpid()}: no model loads\n"
        assert check().returncode == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "environment", "told"),
    [
        ("api", {"HIDIFFUSION_REDIS__URL": "redis://127.0.0.1:1/0"}, "redis is not available"),
        ("worker", {"HIDIFFUSION_REDIS__URL": "redis://127.0.0.1:1/0"}, "redis is not available"),
        ("worker", {"HIDIFFUSION_CATALOG": "none.json"}, "HIDIFFUSION_CATALOG"),
        ("api", {"HIDIFFUSION_API__KEY_FILE": "none.json"}, "hidiffusion keys create"),
        ("webhooks", {"HIDIFFUSION_LOG_LEVEL": "LOUD"}, "log level 'LOUD' is unknown"),
    ],
)
def test_what_cannot_start_says_why_in_a_line(
    command: str, environment: dict[str, str], told: str, tmp_path: Path
) -> None:
    program = (
        "import service.application.generations.readiness as r; r.START_SECONDS = 0.0; "
        "from service.cli import main; main()"
    )
    arguments = ["webhooks", "deliver"] if command == "webhooks" else [command]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "HIDIFFUSION_STORE__URL": tmp_path.as_uri(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode > 0
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith(("error", "bad"))]
    assert told in " ".join(errors)
