"""The whole service as real processes, with a proxy before each of its two stores."""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import redis
from pydantic import SecretStr
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from service.records.records import RedisRecords
from service.settings import RedisSettings, StoreSettings
from service.storage.secret_file import SecretFile
from service.storage.store import open_store
from tests.faulty_s3 import FaultyS3
from tests.hidiffusion.tiny import models as tiny_models
from tests.s3_server import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Server, s3_server
from tests.servers import CuttingProxy, RedisServer, free_port
from tests.service.api.webhooks.receiver import Receiver, receiving

ROOT = Path(__file__).parents[2]
BUCKET = "chaos"

#: A worker that is silent for this long is dead; freezing one for longer makes two of one job.
HEARTBEAT_TTL_SECONDS = 4.0

#: Builds a clock that can be stepped and a disk that can be full; without it both are left out.
COMPILER = shutil.which("cc")

_MARK = "HIDIFFUSION_TEST_CHAOS_RUN"


class Machine:
    """The wall clock and the disk of the processes that `machine.c` is preloaded into."""

    def __init__(self, folder: Path, library: Path | None) -> None:
        self._file = folder / f"machine-{uuid.uuid4().hex}"
        self._file.write_bytes(bytes(16))
        self._library = library

    @property
    def environment(self) -> dict[str, str]:
        """What a process of this machine is started with."""
        if self._library is None:
            return {}
        return {"LD_PRELOAD": str(self._library), "CHAOS_MACHINE": str(self._file)}

    def step_clock(self, seconds: int) -> None:
        """Set the wall clock to this many seconds off the true one."""
        self._set(0, seconds)

    def fill_disk(self, full: bool) -> None:
        """Leave no room on the disk, or give it back."""
        self._set(8, full)

    def _set(self, offset: int, value: int) -> None:
        with self._file.open("r+b") as file:
            file.seek(offset)
            file.write(value.to_bytes(8, sys.byteorder, signed=True))


class Process:
    """One process of the stack, which can be started again."""

    def __init__(self, stack: "Stack", *command: str) -> None:
        self._stack = stack
        self._command = command
        self.process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._stack.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "service.cli", *self._command],
                cwd=ROOT,
                env=self._stack.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


class Stack:
    """Redis with an append-only file, a store, the API, some workers, and what delivers webhooks.

    The service reaches Redis and a bucket through proxies; the suite looks past them.

    Args:
        folder: for all that is written.
        bucket: an S3-compatible server and a proxy before it; None: the store is a folder.
        receiver: takes the webhooks.
        workers: how many.
    """

    def __init__(
        self,
        folder: Path,
        bucket: tuple[S3Server, FaultyS3] | None,
        receiver: Receiver,
        workers: int,
    ) -> None:
        self.folder = folder
        self.log = folder / "service.log"
        library = _build_machine(folder)
        self.machine, self.redis_machine = Machine(folder, library), Machine(folder, library)
        self.run = uuid.uuid4().hex
        self._bucket = bucket
        self.receiver = receiver
        self._secrets = folder / "secrets.json"
        SecretFile(self._secrets).add("")
        self.redis = RedisServer(
            folder, append_only=True, environment=self.redis_machine.environment
        )
        self.redis.start()
        self.redis_proxy = CuttingProxy(self.redis.port)
        self.http_port, self.grpc_port = free_port(), free_port()
        self.client = redis.Redis.from_url(
            self.redis.url,
            decode_responses=True,
            socket_timeout=60,
            retry=Retry(ConstantBackoff(0.5), retries=120),
        )
        self.records = RedisRecords(self.client, RedisSettings(url=self.redis.url))
        self.store = open_store(self._store_settings(bucket[0].endpoint if bucket else ""))
        _save_model(folder)
        self.api = Process(self, "api")
        self.deliverer = Process(self, "webhooks", "deliver")
        self.workers = [Process(self, "worker") for _ in range(workers)]

    @property
    def kind(self) -> str:
        """What the store is: a bucket or a folder."""
        return "bucket" if self._bucket else "folder"

    @property
    def faulty(self) -> FaultyS3:
        """The proxy before the bucket."""
        assert self._bucket is not None
        return self._bucket[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def environment(self) -> dict[str, str]:
        """What every process of the service is started with."""
        store = self._store_settings(self._bucket[1].endpoint if self._bucket else "")
        settings = {
            "CATALOG": str(self.folder / "catalog.json"),
            "REDIS__URL": f"redis://127.0.0.1:{self.redis_proxy.port}/0",
            "STORE__URL": store.url,
            **({"STORE__ENDPOINT": store.endpoint} if self._bucket else {}),
            "STORE__ACCESS_KEY_ID": ACCESS_KEY_ID,
            "STORE__SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "WEBHOOKS__SECRET_FILE": self._secrets,
            "WEBHOOKS__ALLOWED_TARGETS": json.dumps(["127.0.0.0/8"]),
            "WEBHOOKS__TIMEOUT_SECONDS": 2,
            "WEBHOOKS__FIRST_DELAY_SECONDS": 0.5,
            "WEBHOOKS__LONGEST_DELAY_SECONDS": 2,
            "WEBHOOKS__MAX_ATTEMPTS": 1000,
            "API__HTTP_PORT": self.http_port,
            "API__GRPC_PORT": self.grpc_port,
            "WORKER__DEVICE": "cpu",
            "WORKER__TILE_SIZE": 64,
            "WORKER__PREVIEW_EVERY": 3,
            "WORKER__CHECKPOINT_EVERY_STEPS": 2,
            "WORKER__CHECKPOINT_EVERY_SECONDS": 0,
            "WORKER__MAX_ATTEMPTS": 50,
            "WORKER__HEARTBEAT_SECONDS": 1,
            "WORKER__HEARTBEAT_TTL_SECONDS": HEARTBEAT_TTL_SECONDS,
            "WORKER__STALL_SECONDS": 12,
            "WORKER__CANCEL_GRACE_SECONDS": 3,
            "WORKER__DRAIN_GRACE_SECONDS": 3,
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HIDIFFUSION_")}
        return {
            **inherited,
            **self.machine.environment,
            **{f"HIDIFFUSION_{name}": str(value) for name, value in settings.items()},
            _MARK: self.run,
            "OMP_NUM_THREADS": "1",
        }

    def _store_settings(self, endpoint: str) -> StoreSettings:
        if not endpoint:
            return StoreSettings(url=f"file://{self.folder / 'store'}")
        return StoreSettings(
            url=f"s3://{BUCKET}",
            endpoint=endpoint,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SecretStr(SECRET_ACCESS_KEY),
        )

    def wait_until_ready(self, seconds: float = 180) -> None:
        """Return once the API answers and a worker is warm."""
        deadline = time.monotonic() + seconds
        while not (self._a_worker_is_warm() and self._api_answers()):
            assert time.monotonic() < deadline, self.log.read_text()[-5000:]
            time.sleep(0.3)

    def _a_worker_is_warm(self) -> bool:
        pids = {f"-{worker.pid}-" for worker in self.workers}
        return any(
            worker.state in {"idle", "busy"} and any(pid in worker.name for pid in pids)
            for worker in self.records.workers()
        )

    def _api_answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", timeout=5).is_success
        return False

    @property
    def own(self) -> tuple[Process, ...]:
        """Every process that was started here and not by one of these."""
        return (self.api, self.deliverer, *self.workers)

    def worker_of(self, generation_id: str) -> Process | None:
        """The worker that runs a generation, by the process id in its name."""
        name = self.client.hget(f"hidiffusion:generation:{generation_id}", "worker") or ""
        return next((w for w in self.workers if f"-{w.pid}-" in name), None)

    def replace(self, worker: Process) -> None:
        """Start a worker in the place of one that was ended."""
        self.workers[self.workers.index(worker)] = Process(self, "worker")

    def processes(self) -> dict[int, int]:
        """Every living process of this stack, with its parent."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if f"{_MARK}={self.run}".encode() in (entry / "environ").read_bytes():
                    state = (entry / "stat").read_text().rpartition(")")[2].split()
                    if state[0] != "Z":
                        found[int(entry.name)] = int(state[1])
        return found

    def pipeline_of(self, worker: Process) -> int | None:
        """Process id of a worker's pipeline process."""
        return next((pid for pid, parent in self.processes().items() if parent == worker.pid), None)

    def stop(self) -> None:
        """End everything."""
        for process in self.own:
            process.signal(signal.SIGCONT)
            process.kill()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.redis_proxy.close()
        self.redis_proxy.cut_all()
        self.redis.stop(signal.SIGKILL)


@contextlib.contextmanager
def running_stack(workers: int, store: str = "bucket") -> Iterator[Stack]:
    """A stack for the length of the block; `store` is a bucket or a folder."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with contextlib.ExitStack() as stays:
        folder = stays.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
        bucket = None
        if store == "bucket":
            s3 = stays.enter_context(s3_server())
            s3.create_bucket(BUCKET)
            bucket = s3, stays.enter_context(FaultyS3(s3.endpoint).running())
        receiver = stays.enter_context(receiving())
        stack = Stack(Path(folder), bucket, receiver, workers)
        stays.callback(stack.stop)
        yield stack


def _build_machine(folder: Path) -> Path | None:
    if COMPILER is None:
        return None
    library = folder / "machine.so"
    source = Path(__file__).with_name("machine.c")
    subprocess.run(
        [COMPILER, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True
    )
    return library


def _save_model(folder: Path) -> None:
    tiny_models.sd_pipeline().save_pretrained(folder / "tiny")
    model = {
        "name": "tiny",
        "title": "tiny",
        "source": "tiny",
        "native_size": 64,
        "min_size": 64,
        "default_size": 64,
        "default_scheduler": "DDIMScheduler",
        "default_method": "hidiffusion",
        "schedulers": [
            "DDIMScheduler",
            "UniPCMultistepScheduler",
            "EulerAncestralDiscreteScheduler",
        ],
        "methods": ["hidiffusion"],
    }
    (folder / "catalog.json").write_text(json.dumps({"models": [model]}))
