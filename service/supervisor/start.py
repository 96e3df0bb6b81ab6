"""Put one worker together from the settings, and run it."""

from collections.abc import Sequence

from service.application.generations.readiness import wait_for
from service.catalog.file import CatalogFile
from service.events.connection import connect
from service.records.attempts import Attempts
from service.records.records import RedisRecords
from service.settings import Settings
from service.supervisor.housekeeping import housekeeping_of
from service.supervisor.supervisor import PIPELINE_COMMAND, WarmWorker
from service.telemetry import configure_logging
from service.tracing import configure_tracing


def run_worker(settings: Settings, command: Sequence[str] = PIPELINE_COMMAND) -> None:
    """Run one worker in this process until SIGTERM or SIGINT; then drain and return.

    Args:
        settings: all settings; the pipeline process gets them through its environment.
        command: what starts the pipeline process.

    Raises:
        ValueError: a setting is wrong.
        Unavailable: Redis takes no writes, and did not for `START_SECONDS`.
    """
    configure_logging(settings.log_level, settings.log_format, prompts=settings.log_prompts)
    configure_tracing("supervisor", settings.tracing_endpoint)
    catalog = CatalogFile(settings.catalog)
    models = settings.worker.models or catalog().names
    records = RedisRecords(connect(settings.redis.url), settings.redis)
    wait_for(records.ping)
    WarmWorker(
        models,
        connection=connect(settings.redis.url, decode=False),
        attempts=Attempts(records, settings.worker.max_attempts),
        settings=settings.worker,
        housekeeping=housekeeping_of(settings),
        command=command,
        environment=settings.environment(),
        offered=None if settings.worker.models else lambda: catalog().names,
    ).run()
