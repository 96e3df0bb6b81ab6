"""Logging, configured once per process: readable on a terminal, JSON lines everywhere else.

Modules log through `logging.getLogger(__name__)`. `bind_generation` puts the id of the generation
at work on every line that is logged meanwhile; within a trace, each line has its id as well. A
prompt is passed as `extra={"prompt": ...}` and nowhere else, and dropped unless it is asked for.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Literal

import structlog
from opentelemetry import trace

LogFormat = Literal["auto", "console", "json"]


def configure_logging(
    level: str = "INFO", log_format: LogFormat = "auto", *, prompts: bool = False
) -> None:
    """Send every logger of the process to standard error.

    Args:
        level: the lowest level that is logged.
        log_format: for people or for programs; `auto` is for people where they watch a terminal.
        prompts: whether lines keep their `prompt`.

    Raises:
        ValueError: `level` is not the name of a logging level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r} is unknown; use DEBUG, INFO, WARNING or ERROR")
    handler = logging.StreamHandler(sys.stderr)
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    handler.setFormatter(_formatter(pretty=console, prompts=prompts))
    logging.basicConfig(level=number, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)


@contextlib.contextmanager
def bind_generation(generation_id: str, attempt: int | None = None) -> Iterator[None]:
    """Name the generation at work on every line logged inside the block."""
    with structlog.contextvars.bound_contextvars(generation=generation_id, attempt=attempt):
        yield


def _formatter(*, pretty: bool, prompts: bool) -> logging.Formatter:
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.ExtraAdder(allow=["prompt"] if prompts else []),
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
    ]
    # Not structlog's own tracebacks: those show local variables, keys and prompts among them.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    last: list[structlog.types.Processor] = (
        [console]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _add_trace(
    _logger: object, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    """Name the trace that a line belongs to, if it belongs to one."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
    return event
