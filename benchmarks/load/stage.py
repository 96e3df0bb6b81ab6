"""What the load is put on: a Redis as deployed and one API process, and what the latter takes."""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

from benchmarks.load.generator import REQUEST
from service.settings import ApiSettings, RedisSettings, Settings, StoreSettings
from tests.servers import RedisServer, free_port

ROOT = Path(__file__).parent.parent.parent

_START_SECONDS = 60.0


class Stage:
    """One API process over one Redis; `http_address` and `grpc_address` are where it answers."""

    def __init__(self, settings: Settings, process: psutil.Popen, log: Path) -> None:
        self.redis_url = settings.redis.url
        self.store = settings.store
        self.http_address = f"{settings.api.host}:{settings.api.http_port}"
        self.grpc_address = f"{settings.api.host}:{settings.api.grpc_port}"
        self.redis: Any = redis.Redis.from_url(self.redis_url, decode_responses=True)
        self._process = process
        self._log = log

    def wait(self) -> None:
        """Return once HTTP answers; gRPC does so before."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://{self.http_address}/healthz", timeout=1.0).raise_for_status()
                return
            time.sleep(0.1)
        raise RuntimeError(f"the API did not start; its log:\n{self._log.read_text()[-2000:]}")

    def accept(self) -> str:
        """The id of a generation that was accepted just now."""
        url = f"http://{self.http_address}/v1/generations"
        answer = httpx.post(url, json=REQUEST, timeout=30.0)
        return str(answer.raise_for_status().json()["id"])

    def cpu_seconds(self) -> float:
        """Processor time that the API has taken so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def memory_bytes(self) -> int:
        """Resident memory of the API process."""
        return int(self._process.memory_info().rss)

    def redis_connections(self) -> int:
        """Connections that Redis has open, without the one that asks."""
        clients: Any = self.redis.info("clients")
        return int(clients["connected_clients"]) - 1


@contextlib.contextmanager
def stage(fsync: str = "always") -> Iterator[Stage]:
    """A stage for the length of the block; what it stored is deleted with it.

    Args:
        fsync: `appendfsync` of Redis; compose files and `hidiffusion up` have `always`.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = RedisServer(folder, append_only=True, fsync=fsync)
        server.start()
        stack.callback(server.stop)
        settings = Settings(
            redis=RedisSettings(url=server.url),
            store=StoreSettings(url=(folder / "store").as_uri()),
            api=ApiSettings(http_port=free_port(), grpc_port=free_port()),
            catalog=ROOT / "models" / "catalog.json",
        )
        running = Stage(
            settings, _start_api(settings, folder / "api.log", stack), folder / "api.log"
        )
        stack.callback(running.redis.close)
        running.wait()
        yield running


def _start_api(settings: Settings, log: Path, stack: contextlib.ExitStack) -> psutil.Popen:
    environment = {**os.environ, **settings.environment(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "service.cli", "api"]
    with log.open("ab") as lines:
        process = psutil.Popen(command, env=environment, stdout=lines, stderr=subprocess.STDOUT)
    stack.callback(process.wait, 30.0)
    stack.callback(process.terminate)
    return process


def raise_file_limit(needed: int) -> None:
    """Let this process and its children have `needed` files open.

    Raises:
        SystemExit: the hard limit does not allow that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(
            f"{needed} open files are needed and the hard limit is {hard}; raise it (`ulimit -Hn`, "
            "or `nofile` in limits.conf), or ask for fewer watchers"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
