"""Code copied from the page, run as a person would run it."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.service.api.painter import Painter
from tests.service.api.stack import Stack
from tests.service.api.web.screen import Screen

ROOT = Path(__file__).parents[4]

#: The clients that the page writes code for.
CLIENTS = (
    pytest.param(
        "curl",
        marks=pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
    ),
    "Python, HTTP",
    "Python, gRPC",
    "OpenAI SDK",
)


def copied(screen: Screen, client: str) -> str:
    """What the page's copy button puts into the clipboard."""
    screen.page.get_by_role("tab", name=client).click()
    screen.page.get_by_role("button", name="Copy").click()
    expect(screen.page.get_by_role("button", name="Copied")).to_be_visible()
    code: str = screen.page.evaluate("() => navigator.clipboard.readText()")
    return code


def run(code: str, client: str, stack: Stack, folder: Path, **environment: str) -> None:
    """Run it in `folder`, with a played worker that paints the generation it asks for."""
    (latest,) = stack.records.list(status=None, cursor=None, limit=1).generations
    worker = threading.Thread(target=_paint_what_follows, args=(stack, latest.id))
    worker.start()
    command = ["bash", "-euc", code] if client == "curl" else [sys.executable, "-c", code]
    ran = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    worker.join()
    assert ran.returncode == 0, ran.stderr


def _paint_what_follows(stack: Stack, known: str) -> None:
    while True:
        (latest,) = stack.records.list(status=None, cursor=None, limit=1).generations
        if latest.id != known:
            Painter(stack.worker, latest.id).finish()
            return
        threading.Event().wait(0.02)
