"""The composition root: the only place that picks concrete adapters for the ports."""

import logging
import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import uvloop

from service.api.fetching import PictureFetcher
from service.api.serve import serve
from service.api.webhooks.delivery import Courier
from service.api.webhooks.worker import WebhookWorker
from service.application.access import Access
from service.application.generations.cancel import CancelGeneration, PurgeGeneration
from service.application.generations.query import Query
from service.application.generations.readiness import wait_for
from service.application.generations.retention import Budget, SweepStore, Swept
from service.application.generations.store_scan import ScanStore
from service.application.generations.watch import WatchGeneration
from service.application.ports import Records
from service.application.requests.submit import SubmitGeneration
from service.application.requests.webhooks import WebhookRules
from service.application.sources.elsewhere import Elsewhere, fetch_nothing
from service.application.sources.uploads import Uploads
from service.application.use_cases import UseCases
from service.application.verify import VerifyResults
from service.catalog.file import CatalogFile
from service.domain.errors import ServiceError
from service.domain.generations.generation import Generation
from service.domain.webhooks import Targets
from service.events.connection import connect
from service.events.stream import RedisEventLog
from service.records.limiter import RedisLimiter
from service.records.quarantine import Quarantined
from service.records.queue.outbox import Outbox, RedisWebhooks
from service.records.records import RedisRecords
from service.records.retention import RedisRetained
from service.records.uploads import RedisUploads
from service.settings import ApiSettings, RetentionSettings, Settings
from service.storage.key_file import KeyFile
from service.storage.pictures import PictureReader
from service.storage.secret_file import SecretFile
from service.storage.store import open_store
from service.telemetry import configure_logging
from service.tracing import configure_tracing

_log = logging.getLogger(__name__)

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """The current time, timezone-aware."""
        return datetime.now(UTC)


class BuildUseCases(Protocol):
    """Makes every use case over some records, for a tenant (empty: where there are none)."""

    def __call__(self, records: Records, tenant: str = "") -> UseCases:
        """All that the tenant can do."""
        ...


def use_cases_builder(settings: Settings) -> BuildUseCases:
    """What makes every use case over some records and the store that `settings` name.

    Raises:
        ValueError: the catalogue, a URL or another value in the settings is wrong.
    """
    catalog = CatalogFile(settings.catalog)
    store, clock = open_store(settings.store), SystemClock()
    events = RedisEventLog(settings.redis.url)
    client = connect(settings.redis.url)
    known_uploads, webhooks = RedisUploads(client), RedisWebhooks(client)
    api = settings.api
    rules_for = webhook_rules(settings)
    read = PictureReader(api.max_upload_bytes, api.max_upload_pixels, api.upload_formats)
    fetch = picture_fetcher(api)

    def build(records: Records, tenant: str = "") -> UseCases:
        lifetime = settings.retention.upload_ttl_seconds
        uploads = Uploads(
            known_uploads, store, read, clock, lifetime,
            tenant=tenant, check_storage=records.check_storage,
            elsewhere=Elsewhere(records, store, fetch),
        )  # fmt: skip
        return UseCases(
            submit=SubmitGeneration(catalog, records, clock, uploads, rules_for(tenant)),
            cancel=CancelGeneration(records, clock),
            purge=PurgeGeneration(records, store),
            query=Query(
                catalog,
                records,
                store,
                webhooks,
                tile_size=settings.worker.tile_size,
                tile_overlap=settings.worker.tile_overlap,
            ),
            watch=WatchGeneration(records, events),
            uploads=uploads,
            tenant=tenant,
        )

    return build


def picture_fetcher(api: ApiSettings) -> Callable[[str], bytes]:
    """What fetches the pictures that requests name by URL; raises ValueError for a wrong target."""
    if not api.fetch_pictures:
        return fetch_nothing
    targets = Targets.parse(api.fetch_targets)
    return PictureFetcher(targets, api.max_upload_bytes, api.fetch_seconds)


def webhook_rules(settings: Settings) -> Callable[[str], WebhookRules]:
    """What makes the rules for the webhooks of a tenant.

    Raises:
        ValueError: an allowed target is none, or the file of secrets cannot be read.
    """
    targets = Targets.parse(settings.webhooks.allowed_targets)
    if settings.webhooks.secret_file is None:
        return lambda _: WebhookRules(targets)
    file = SecretFile(settings.webhooks.secret_file)
    file.of("")
    return lambda tenant: WebhookRules(targets, lambda: bool(file.of(tenant)))


def run_webhooks(settings: Settings) -> None:
    """Deliver webhooks until told to stop.

    Raises:
        ValueError: the file of secrets is not set or cannot be read, or an allowed target is none.
        Unavailable: Redis takes no writes, and did not for `START_SECONDS`.
    """
    configure_logging(settings.log_level)
    webhooks, url = settings.webhooks, settings.redis.url
    if webhooks.secret_file is None:
        raise ValueError(
            "webhooks are signed, and HIDIFFUSION_WEBHOOKS__SECRET_FILE is not set; make the file "
            "with `hidiffusion webhooks secret`"
        )
    secrets = SecretFile(webhooks.secret_file)
    secrets.of("")
    connection = connect(url, decode=False)
    records = RedisRecords(connect(url), settings.redis)
    wait_for(records.ping)
    WebhookWorker(
        connection,
        records,
        open_outbox(settings),
        Courier(Targets.parse(webhooks.allowed_targets), webhooks.timeout_seconds),
        secrets_of=secrets.of,
        settings=webhooks,
        public_url=settings.api.public_url.rstrip("/"),
    ).run()


def open_outbox(settings: Settings) -> Outbox:
    """The webhooks that wait for their delivery."""
    url = settings.redis.url
    return Outbox(connect(url), connect(url, decode=False))


def run_api(settings: Settings) -> None:
    """Serve HTTP and gRPC until told to stop, and sweep the store from time to time.

    Raises:
        ValueError: a setting is wrong, or the file of API keys cannot be read.
        ServiceError: Redis or the store takes no writes, and did not for `START_SECONDS`.
    """
    configure_logging(settings.log_level, settings.log_format, prompts=settings.log_prompts)
    configure_tracing("api", settings.tracing_endpoint)
    build = use_cases_builder(settings)
    client = connect(settings.redis.url)
    records = RedisRecords(client, settings.redis)
    access = None
    if settings.api.key_file is not None:
        keys = KeyFile(settings.api.key_file)
        keys.check()
        access = Access(keys, records, RedisLimiter(client), SystemClock(), build)
    elif settings.api.host not in _LOOPBACK:
        _log.warning(
            "HIDIFFUSION_API__KEY_FILE is not set: everybody who reaches %s may do everything; "
            "make keys with `hidiffusion keys create`",
            settings.api.host,
        )
    wait_for(records.ping, open_store(settings.store).ping)
    if settings.retention.interval_seconds:
        threading.Thread(target=_keep_sweeping, args=(settings,), daemon=True).start()
    uvloop.run(serve(settings.api, build(records), access=access))


def sweep(settings: Settings, *, scan: bool = False) -> Swept:
    """Sweep the store once, now; `scan` goes through every object in it.

    Raises:
        Unavailable: Redis or the store cannot be reached.
    """
    retained = _retained(settings)
    swept = _sweeper(settings, retained)()
    if not scan:
        return swept
    store, retention = open_store(settings.store), settings.retention
    scanned = ScanStore(
        store, retained, budget=_budget(retention), grace_seconds=retention.grace_seconds
    )()
    return Swept(
        swept.records + scanned.records, swept.objects + scanned.objects, scanned.kept_bytes
    )


def verify(settings: Settings, *, forget: bool = False) -> list[Generation]:
    """What succeeded and is not whole in the store; with `forget` their records go too.

    Raises:
        Unavailable: Redis or the store cannot be reached.
    """
    records = RedisRecords(connect(settings.redis.url), settings.redis)
    return VerifyResults(records, open_store(settings.store))(forget=forget)


def quarantined(settings: Settings) -> list[Quarantined]:
    """The records that some process could not read; raises `Unavailable`."""
    return RedisRecords(connect(settings.redis.url), settings.redis).quarantine.entries()


def _keep_sweeping(settings: Settings) -> None:
    """Sweep the store whenever it is this process's turn; one of many API processes has it."""
    retained, seconds = _retained(settings), settings.retention.interval_seconds
    sweep_store = _sweeper(settings, retained)
    while True:
        time.sleep(seconds)
        try:
            if retained.take_turn(seconds):
                sweep_store()
        except ServiceError as error:
            _log.warning("the store was not swept: %s", error)


def _retained(settings: Settings) -> RedisRetained:
    return RedisRetained(RedisRecords(connect(settings.redis.url), settings.redis))


def _budget(retention: RetentionSettings) -> Budget:
    """What the store may hold, in bytes, given what it holds; None: no limit."""

    disk, share = retention.disk, retention.disk_share
    if disk is None:
        return lambda _held: retention.max_bytes
    return lambda held: int(share * (held + shutil.disk_usage(disk).free))


def _sweeper(settings: Settings, retained: RedisRetained) -> SweepStore:
    retention = settings.retention
    return SweepStore(
        open_store(settings.store),
        retained,
        budget=_budget(retention),
        grace_seconds=retention.grace_seconds,
    )
