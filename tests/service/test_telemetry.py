"""What a process logs, read from its standard error."""

import json
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import logging, sys
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from service.telemetry import bind_generation, configure_logging

log_format, prompts = sys.argv[1:]
configure_logging("INFO", log_format, prompts=prompts == "yes")
log = logging.getLogger("somewhere")
span = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1)))
with trace.use_span(span), bind_generation("01ABC", 2):
    log.info("accepted for %s", "emoji", extra={"prompt": "a secret wish"})
def fail(key):
    raise RuntimeError("no luck")
try:
    fail("hd_very_secret")
except RuntimeError:
    log.exception("failed")
"""


def logged(log_format: str, prompts: str = "no") -> str:
    command = [sys.executable, "-c", PROGRAM, log_format, prompts]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_a_line_is_a_document_with_what_it_belongs_to(log_format: str) -> None:
    accepted, failed = lines(logged(log_format))

    assert accepted["event"] == "accepted for emoji"
    assert (accepted["generation"], accepted["attempt"]) == ("01ABC", 2)
    assert accepted["trace_id"] == f"{0xABC:032x}"
    assert {"timestamp", "level", "logger"} <= set(accepted)
    assert "RuntimeError: no luck" in failed["exception"]
    assert "trace_id" not in failed


def test_console_lines_are_for_people() -> None:
    text = logged("console")

    assert "accepted for emoji" in text
    assert "{" not in text


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_prompts_and_local_variables_stay_out(log_format: str) -> None:
    assert "secret" not in logged(log_format).replace('fail("hd_very_secret")', "")


def test_prompts_are_logged_where_that_is_set() -> None:
    assert lines(logged("json", "yes"))[0]["prompt"] == "a secret wish"
