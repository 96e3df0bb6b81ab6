"""The composition root: the only place that picks concrete adapters for the ports."""

import asyncio
import socket
from datetime import UTC, datetime

from service.api.serve import serve
from service.application.cancel import CancelGeneration, PurgeGeneration
from service.application.query import Query
from service.application.submit import SubmitGeneration
from service.application.use_cases import UseCases
from service.application.watch import WatchGeneration
from service.events.connection import connect
from service.events.stream import RedisEventLog
from service.queue import supervisor
from service.queue.records import RedisRecords
from service.settings import Settings
from service.storage.store import open_store
from service.telemetry import configure_logging


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """The current time, timezone-aware."""
        return datetime.now(UTC)


def build_use_cases(settings: Settings) -> UseCases:
    """Every use case over Redis and the object store that `settings` name.

    Raises:
        ValueError: the catalogue or a URL in the settings is wrong.
    """
    catalog = settings.load_catalog()
    records = RedisRecords(connect(settings.redis.url), settings.redis)
    store = open_store(settings.store)
    clock = SystemClock()
    return UseCases(
        submit=SubmitGeneration(catalog, records, clock),
        cancel=CancelGeneration(records, clock),
        purge=PurgeGeneration(records, store),
        query=Query(
            catalog, records, store, settings.worker.tile_size, settings.worker.tile_overlap
        ),
        watch=WatchGeneration(records, RedisEventLog(settings.redis.url)),
    )


def run_api(settings: Settings) -> None:
    """Serve HTTP and gRPC until told to stop."""
    configure_logging(settings.log_level)
    asyncio.run(serve(settings.api, build_use_cases(settings)))


def worker_is_alive(settings: Settings) -> bool:
    """Whether a worker on this host has reported within its heartbeat's lifetime.

    Raises:
        Unavailable: Redis cannot be reached.
    """
    records = RedisRecords(connect(settings.redis.url), settings.redis)
    prefix = f"{socket.gethostname()}-"
    return any(worker.name.startswith(prefix) for worker in records.workers())


def run_worker(settings: Settings) -> None:
    """Run one worker until told to stop."""
    configure_logging(settings.log_level)
    supervisor.run_worker(settings)
