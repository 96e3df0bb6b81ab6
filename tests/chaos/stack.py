"""The whole service as real processes, with a proxy before each of its two stores."""

import contextlib
import json
import logging
import os
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import redis
from pydantic import SecretStr
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from service.records.records import RedisRecords
from service.settings import RedisSettings, StoreSettings
from service.storage.secret_file import SecretFile
from service.storage.store import open_store
from tests.chaos.clients import TENANTS, Asking, make_tokens
from tests.chaos.machine import Machine, build_library
from tests.chaos.process import ROOT, Process
from tests.faulty_s3 import FaultyS3
from tests.hidiffusion.tiny import models as tiny_models
from tests.s3_server import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Server, s3_server
from tests.servers import CuttingProxy, RedisServer, free_port
from tests.service.api.webhooks.receiver import Receiver, receiving

BUCKET = "chaos"

#: A worker that is silent for this long is dead; freezing one for longer makes two of one job.
HEARTBEAT_TTL_SECONDS = 4.0

#: A worker of so many draws generations of one kind together, up to three; the others each alone.
BATCHING = 2

_MARK = "HIDIFFUSION_TEST_CHAOS_RUN"


class Stack:
    """Redis with an append-only file, a store, the API, some workers, and what delivers webhooks.

    The service reaches Redis and a bucket through proxies; the suite looks past them.

    Args:
        folder: for all that is written.
        bucket: an S3-compatible server and a proxy before it; None: the store is a folder.
        receiver: takes the webhooks.
        workers: how many.
        release: a tree with an earlier release's code; None: there is no fault that needs it.
    """

    def __init__(
        self,
        folder: Path,
        bucket: tuple[S3Server, FaultyS3] | None,
        receiver: Receiver,
        workers: int,
        release: Path | None = None,
    ) -> None:
        self.release = release
        self.folder = folder
        self.log = folder / "service.log"
        library = build_library(folder)
        self.machine, self.redis_machine = Machine(folder, library), Machine(folder, library)
        self.run = uuid.uuid4().hex
        self._bucket = bucket
        self.receiver = receiver
        self._secrets = folder / "secrets.json"
        for tenant in TENANTS:
            SecretFile(self._secrets).add(tenant)
        self._keys = folder / "keys.json"
        self._tokens = make_tokens(self._keys)
        self.redis = RedisServer(
            folder, append_only=True, environment=self.redis_machine.environment
        )
        self.redis.start()
        self.redis_proxy = CuttingProxy(self.redis.port)
        self.past = CuttingProxy(self.redis.port)  # the suite's own way to whichever is primary
        self.http_port, self.grpc_port = free_port(), free_port()
        self.client = redis.Redis.from_url(
            f"redis://127.0.0.1:{self.past.port}/0",
            decode_responses=True,
            socket_timeout=60,
            retry=Retry(ConstantBackoff(0.5), retries=120),
        )
        self.records = RedisRecords(self.client, RedisSettings(url=self.redis.url))
        self.store = open_store(self._store_settings(bucket[0].endpoint if bucket else ""))
        _save_model(folder)
        self.api = Process(self, "api")
        self.deliverer = Process(self, "webhooks", "deliver")
        self.workers = [
            Process(self, "worker", WORKER__MAX_BATCH=1 if number % BATCHING else 3)
            for number in range(1, workers + 1)
        ]

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

    def headers(self, tenant: str) -> dict[str, str]:
        """What a client of the tenant sends with every request; nothing of nobody's."""
        return {"authorization": f"Bearer {self._tokens[tenant]}"} if tenant else {}

    def asking(self, tenant: str, body: Mapping[str, Any], n: int) -> Asking:
        """A request of one of the tenant's clients for so many pictures, still to be sent."""
        return Asking(tenant, self.url, self.headers(tenant), body, n)

    def environment(self, more: Mapping[str, Any]) -> dict[str, str]:
        """What a process of the service is started with, settings of its own among it."""
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
            "API__KEY_FILE": self._keys,
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
            **more,
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

    def replace(self, worker: Process, root: Path = ROOT) -> Process:
        """Start a worker in the place of one that was ended; `root` is where its code is."""
        new = Process(self, "worker", root=root, **worker.settings)
        self.workers[self.workers.index(worker)] = new
        return new

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
        for proxy in (self.redis_proxy, self.past):
            proxy.close()
            proxy.cut_all()
        self.redis.stop(signal.SIGKILL)


@contextlib.contextmanager
def running_stack(
    workers: int, store: str = "bucket", release: Path | None = None
) -> Iterator[Stack]:
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
        stack = Stack(Path(folder), bucket, receiver, workers, release)
        stays.callback(stack.stop)
        yield stack


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
