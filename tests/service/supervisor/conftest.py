"""Records in a real Redis, and real worker processes with a scripted pipeline process."""

import contextlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ulid import ULID

from tests.generations import MODEL
from tests.servers import redis_server
from tests.service.supervisor import scripted_worker
from tests.service.supervisor.waiting import PATIENCE_SECONDS

#: Loads what a worker needs once, and forks each worker: a second of processor time less for each.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([scripted_worker.__name__])


class ScriptedWorker:
    """One worker process and the log of the pipeline processes it started."""

    def __init__(
        self,
        url: str,
        folder: Path,
        models: tuple[str, ...] = (MODEL,),
        warm: tuple[str, ...] = (MODEL,),
        capacity: int | None = None,
        **settings: float,
    ) -> None:
        self._children = folder / f"children-{ULID()}"
        self._children.touch()
        limits: dict[str, float] = {
            "heartbeat_seconds": 0.3,
            "heartbeat_ttl_seconds": 6,
            "cancel_grace_seconds": 0.5,
            "drain_grace_seconds": 10,
            **settings,
        }
        environment = {
            **os.environ,
            "HIDIFFUSION_REDIS__URL": url,
            "HIDIFFUSION_WORKER__MODELS": json.dumps(models),
            "SCRIPTED_CHILD_LOG": str(self._children),
            "SCRIPTED_CHILD_MODELS": ",".join(warm),
            **{f"HIDIFFUSION_WORKER__{name.upper()}": str(v) for name, v in limits.items()},
        }
        if capacity is not None:
            environment["SCRIPTED_CHILD_CAPACITY"] = str(capacity)
        self._process = _FORKS.Process(target=scripted_worker.run, args=(environment,))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    @property
    def children(self) -> list[int]:
        """Process ids of every pipeline process so far, oldest first."""
        return [int(line) for line in self._children.read_text().split()]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int | None:
        """Its exit code once it has ended; None if it does not."""
        self._process.join(PATIENCE_SECONDS)
        return self._process.exitcode

    def end(self) -> None:
        for pid in (self.pid, *self.children):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.join()


@contextlib.contextmanager
def _shared_worker(folder: Path, **settings: float) -> Iterator[tuple[str, ScriptedWorker]]:
    with redis_server(folder) as server:
        worker = ScriptedWorker(server.url, folder, cancel_grace_seconds=0.3, **settings)
        yield server.url, worker
        worker.end()


@pytest.fixture(scope="module")
def steady_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ScriptedWorker]]:
    """A worker that many tests share, with the URL of a Redis of its own."""
    with _shared_worker(tmp_path_factory.mktemp("steady")) as shared:
        yield shared


@pytest.fixture(scope="module")
def hurried_worker(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, ScriptedWorker]]:
    """The same with a limit of one second for each job."""
    with _shared_worker(tmp_path_factory.mktemp("hurried"), job_timeout_seconds=1) as shared:
        yield shared


@pytest.fixture
def start_worker(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., ScriptedWorker]]:
    workers: list[ScriptedWorker] = []

    def start(url: str = redis_url, **settings: Any) -> ScriptedWorker:
        workers.append(ScriptedWorker(url, tmp_path, **settings))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()
