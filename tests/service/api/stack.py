"""Both front ends on real sockets, over a real Redis and a real folder."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from hidiffusion_api.v1 import generation_service_pb2_grpc as stubs
from service.api.fetching import PictureFetcher
from service.api.serve import Endpoints, front_ends
from service.application.access import Access, Keys
from service.application.generations.cancel import CancelGeneration, PurgeGeneration
from service.application.generations.query import Query
from service.application.generations.watch import WatchGeneration
from service.application.ports import ObjectStore, Records, WorkerInfo
from service.application.requests.submit import SubmitGeneration
from service.application.requests.webhooks import WebhookRules
from service.application.sources.elsewhere import Elsewhere
from service.application.sources.uploads import Uploads
from service.application.use_cases import UseCases
from service.bootstrap import BuildUseCases, SystemClock
from service.domain.models.adapters import Embedding, Lora
from service.domain.models.catalog import Catalog, Model
from service.domain.models.controls import ControlNet
from service.domain.models.image_prompts import IpAdapter
from service.domain.webhooks import Targets
from service.events.connection import connect
from service.events.stream import RedisEventLog
from service.records.attempts import Attempts
from service.records.limiter import RedisLimiter
from service.records.queue.outbox import RedisWebhooks
from service.records.records import RedisRecords
from service.records.uploads import RedisUploads
from service.settings import ApiSettings, RedisSettings, StoreSettings
from service.storage.pictures import PictureReader
from service.storage.store import open_store
from tests.service.api.played_worker import PlayedWorker

CATALOG = Catalog(
    models=(
        Model(
            name="emoji",
            title="Emoji",
            source="somewhere/inside",
            native_size=256,
            min_size=128,
            max_size=4096,
            default_size=512,
            default_scheduler="DDIMScheduler",
            schedulers=("DDIMScheduler", "EulerDiscreteScheduler"),
            methods=("hidiffusion", "hidiffusion-guided", "hidiffusion-refresh", "direct"),
            loras=(
                Lora(name="ink", title="Ink", source="somewhere/inside/ink.safetensors"),
                Lora(name="oil", title="Oil", source="somewhere/inside", file="oil.safetensors"),
            ),
            controls=(
                ControlNet(name="canny", title="Edges", source="somewhere/inside/canny"),
                ControlNet(name="depth", title="Depth", source="somewhere/inside/depth"),
            ),
            ip_adapter=IpAdapter(source="somewhere/inside", file="ip-adapter.safetensors"),
            embeddings=(Embedding(token="<w>", title="A word", source="somewhere/inside/w.pt"),),
        ),
    )
)

#: The same, with an upscaler.
CATALOG_THAT_ENLARGES = Catalog(
    models=(
        *CATALOG.models,
        Model(
            name="larger",
            title="Larger",
            kind="upscaler",
            engine="inf-dit",
            source="somewhere/inside",
            scales=(2, 4),
            native_size=256,
            min_size=128,
            max_size=1200,
            default_size=1024,
            default_steps=5,
            schedulers=("EDMHeun",),
            default_scheduler="EDMHeun",
            methods=("direct",),
            default_method="direct",
        ),
    )
)

MAX_BODY_BYTES = 64 * 1024
MAX_UPLOAD_BYTES = 256 * 1024
MAX_UPLOAD_PIXELS = 512 * 512
UPLOAD_TTL_SECONDS = 60
MAX_WAIT_SECONDS = 2
IMAGE_WAIT_SECONDS = 1.5
KEEP_ALIVE_SECONDS = 0.3
FETCH_TARGETS = ("127.0.0.1", "pictures.test")
FETCH_SECONDS = 5
WEBHOOK_TARGETS = ("127.0.0.1", "127.0.0.2", "receiver.test")


@dataclass(frozen=True)
class Stack:
    """A running service without workers, and what a test needs to play them."""

    endpoints: Endpoints
    records: RedisRecords
    store: ObjectStore
    store_settings: StoreSettings
    worker: PlayedWorker
    http: httpx.Client
    channel: grpc.Channel
    stub: stubs.GenerationServiceStub

    def submit(self, **fields: object) -> str:
        """Accept a request over HTTP; returns the id."""
        response = self.http.post("/v1/generations", json={"prompt": "a red guitar", **fields})
        assert response.status_code == 202, response.text
        generation_id: str = response.json()["id"]
        return generation_id

    @property
    def store_folder(self) -> Path:
        """Where a store in a folder keeps its objects."""
        return Path(self.store_settings.url.removeprefix("file://"))

    def add_worker(self) -> None:
        """Report a live worker that is warm for the model."""
        info = WorkerInfo("played", "idle", ("emoji",), ("emoji",), 1)
        Attempts(self.records, max_losses=3).report(info, ttl_seconds=60)

    def count(self) -> int:
        """How many generations were ever accepted."""
        count, page = 0, self.records.list(status=None, cursor=None, limit=100)
        while page.next_cursor is not None:
            count += len(page.generations)
            page = self.records.list(status=None, cursor=page.next_cursor, limit=100)
        return count + len(page.generations)


def use_cases(
    redis_url: str,
    store: ObjectStore,
    redis_settings: RedisSettings | None = None,
    catalog: Catalog = CATALOG,
) -> tuple[UseCases, RedisRecords]:
    """Every use case over the real adapters."""
    records = RedisRecords(connect(redis_url), redis_settings or RedisSettings())
    return builder(redis_url, store, catalog)(records), records


def builder(redis_url: str, store: ObjectStore, catalog: Catalog = CATALOG) -> BuildUseCases:
    """What makes every use case over some records."""
    clock, events = SystemClock(), RedisEventLog(redis_url)
    known_uploads, delivered = RedisUploads(connect(redis_url)), RedisWebhooks(connect(redis_url))
    webhooks = WebhookRules(Targets.parse(WEBHOOK_TARGETS), lambda: True)
    fetch = PictureFetcher(Targets.parse(FETCH_TARGETS), MAX_UPLOAD_BYTES, FETCH_SECONDS)
    read = PictureReader(MAX_UPLOAD_BYTES, MAX_UPLOAD_PIXELS, ("png", "jpeg", "webp"))

    def build(records: Records, tenant: str = "") -> UseCases:
        uploads = Uploads(
            known_uploads, store, read, clock, UPLOAD_TTL_SECONDS,
            tenant=tenant, check_storage=records.check_storage,
            elsewhere=Elsewhere(records, store, fetch),
        )  # fmt: skip
        return UseCases(
            submit=SubmitGeneration(lambda: catalog, records, clock, uploads, webhooks),
            cancel=CancelGeneration(records, clock),
            purge=PurgeGeneration(records, store),
            query=Query(lambda: catalog, records, store, delivered),
            watch=WatchGeneration(records, events, KEEP_ALIVE_SECONDS),
            uploads=uploads,
            tenant=tenant,
        )

    return build


@contextmanager
def running_stack(
    redis_url: str,
    store_settings: StoreSettings,
    keys: Keys | None = None,
    redis_settings: RedisSettings | None = None,
    *,
    redirect_tiles: bool = False,
    catalog: Catalog = CATALOG,
) -> Iterator[Stack]:
    """A stack for the length of the block; with `keys` it asks for them."""
    store = open_store(store_settings)
    cases, records = use_cases(redis_url, store, redis_settings, catalog)
    access = None
    if keys is not None:
        limiter = RedisLimiter(records.redis)
        access = Access(keys, records, limiter, SystemClock(), builder(redis_url, store, catalog))
    settings = ApiSettings(
        http_port=0,
        grpc_port=0,
        allowed_hosts=("known.test",),
        max_body_bytes=MAX_BODY_BYTES,
        max_upload_bytes=MAX_UPLOAD_BYTES,
        max_wait_seconds=MAX_WAIT_SECONDS,
        image_wait_seconds=IMAGE_WAIT_SECONDS,
        redirect_tiles=redirect_tiles,
    )
    with (
        closing(records.redis),
        serving(settings, cases, access) as endpoints,
        httpx.Client(base_url=endpoints.http_url, timeout=20) as http,
        grpc.insecure_channel(endpoints.grpc_address) as channel,
    ):
        yield Stack(
            endpoints=endpoints,
            records=records,
            store=store,
            store_settings=store_settings,
            worker=PlayedWorker(records, store),
            http=http,
            channel=channel,
            stub=stubs.GenerationServiceStub(channel),
        )


@contextmanager
def serving(settings: ApiSettings, cases: UseCases, access: Access | None) -> Iterator[Endpoints]:
    """The front ends in an event loop of their own thread."""
    loop_and_stop: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    ready: Future[Endpoints] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        loop_and_stop.set_result((asyncio.get_running_loop(), stop))
        async with front_ends(settings, cases, access) as endpoints:
            ready.set_result(endpoints)
            await stop.wait()

    with ThreadPoolExecutor(1, thread_name_prefix="front-ends") as pool:
        running = pool.submit(asyncio.run, run())
        loop, stop = loop_and_stop.result(20)
        try:
            yield ready.result(20)
        finally:
            loop.call_soon_threadsafe(stop.set)
            running.result(20)


def violations_of(error: grpc.RpcError) -> list[BadRequest.FieldViolation]:
    """The fields that gRPC refuses as an invalid argument, and why."""
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = BadRequest()
    status = rpc_status.from_call(error)
    assert status is not None
    assert any(detail.Unpack(found) for detail in status.details)
    return list(found.field_violations)
