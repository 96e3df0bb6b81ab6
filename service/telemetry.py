"""Logging, configured once per process: readable on a terminal, JSON lines everywhere else.

Modules log through `logging.getLogger(__name__)`. `bind_generation` puts the id of the generation
at work on every line that is logged meanwhile.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator

import structlog


def configure_logging(level: str = "INFO") -> None:
    """Send every logger of the process to standard error at `level` or above.

    Raises:
        ValueError: `level` is not the name of a logging level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r} is unknown; use DEBUG, INFO, WARNING or ERROR")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(pretty=sys.stderr.isatty()))
    logging.basicConfig(level=number, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)


@contextlib.contextmanager
def bind_generation(generation_id: str, attempt: int | None = None) -> Iterator[None]:
    """Name the generation at work on every line logged inside the block."""
    with structlog.contextvars.bound_contextvars(generation=generation_id, attempt=attempt):
        yield


def _formatter(*, pretty: bool) -> logging.Formatter:
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
