"""Receivers, and processes that deliver to them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.events.connection import connect
from service.records.queue.outbox import Outbox
from service.storage.secret_file import SecretFile
from tests.servers import RedisServer
from tests.service.api.webhooks.receiver import Receiver, receiving

ROOT = Path(__file__).parents[4]
PUBLIC_URL = "https://pictures.example"

Start = Callable[..., subprocess.Popen[bytes]]


class Deliverers:
    """Processes that deliver, their secret and their log."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.log = folder / "log"
        self._secrets = folder / "secrets.json"
        self._redis_url = redis_url
        self._running: list[subprocess.Popen[bytes]] = []
        self.secret = SecretFile(self._secrets).add("")

    def start(self, **settings: Any) -> subprocess.Popen[bytes]:
        limits = {"first_delay_seconds": 0.05, "max_attempts": 3, "timeout_seconds": 5} | settings
        environment = {
            **os.environ,
            "HIDIFFUSION_REDIS__URL": self._redis_url,
            "HIDIFFUSION_API__PUBLIC_URL": f"{PUBLIC_URL}/",
            "HIDIFFUSION_WEBHOOKS__SECRET_FILE": str(self._secrets),
            "HIDIFFUSION_WEBHOOKS__ALLOWED_TARGETS": json.dumps(["127.0.0.0/8"]),
            **{f"HIDIFFUSION_WEBHOOKS__{name.upper()}": str(v) for name, v in limits.items()},
        }
        command = [sys.executable, "-m", "service.cli", "webhooks", "deliver"]
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        self._running.append(process)
        return process

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()


@contextmanager
def _deliverers(redis_url: str, folder: Path) -> Iterator[Deliverers]:
    deliverers = Deliverers(redis_url, folder)
    try:
        yield deliverers
    finally:
        deliverers.end()


@pytest.fixture
def deliverers(shared_redis: RedisServer, tmp_path: Path) -> Iterator[Deliverers]:
    """None runs yet."""
    with _deliverers(shared_redis.url, tmp_path) as deliverers:
        yield deliverers


@pytest.fixture(scope="module")
def steady(
    shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deliverers]:
    """One runs, for all tests of a module."""
    with _deliverers(shared_redis.url, tmp_path_factory.mktemp("steady")) as deliverers:
        deliverers.start()
        yield deliverers


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def outbox(shared_redis: RedisServer) -> Outbox:
    return Outbox(connect(shared_redis.url), connect(shared_redis.url, decode=False))
