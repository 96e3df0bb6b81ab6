"""A result's recipe, and the code that makes it again: what is shown is run."""

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

#: A prompt that breaks careless quoting in shells and in Python.
PROMPT = 'a fox\'s "den", with a $HOME, a \\ and a ☃'


def _finished(stack: Stack) -> Painter:
    painter = Painter(stack.worker, stack.submit(prompt=PROMPT, width=256, height=256, seed=7))
    painter.finish()
    return painter


def _paint_what_comes(stack: Stack, known: str) -> None:
    """Play the worker for the next generation."""
    while True:
        page = stack.records.list(status=None, cursor=None, limit=1)
        if page.generations[0].id != known:
            Painter(stack.worker, page.generations[0].id).finish()
            return
        threading.Event().wait(0.02)


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.mark.parametrize(
    "client", [pytest.param("curl", marks=needs_curl), "Python, HTTP", "Python, gRPC", "OpenAI SDK"]
)
def test_copied_code_makes_the_same_picture(
    screen: Screen, stack: Stack, tmp_path: Path, client: str
) -> None:
    first = _finished(stack)
    screen.open(first.generation.id)
    screen.page.get_by_role("tab", name=client).click()
    screen.page.get_by_role("button", name="Copy").click()
    expect(screen.page.get_by_role("button", name="Copied")).to_be_visible()
    code = screen.page.evaluate("() => navigator.clipboard.readText()")

    worker = threading.Thread(target=_paint_what_comes, args=(stack, first.generation.id))
    worker.start()
    command = ["bash", "-euc", code] if client == "curl" else [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    worker.join()

    assert ran.returncode == 0, ran.stderr
    twin = stack.records.list(status=None, cursor=None, limit=1).generations[0]
    assert twin.id != first.generation.id
    assert twin.request == first.generation.request
    original = stack.http.get(f"/v1/generations/{first.generation.id}/image").content
    assert (tmp_path / "picture.png").read_bytes() == original


def test_recipe_tells_everything_that_decided_the_picture(screen: Screen, stack: Stack) -> None:
    screen.open(_finished(stack).generation.id)

    recipe = screen.page.locator("#recipe dl")

    for text in (PROMPT, "256 \u00d7 256", "HiDiffusion", "DDIMScheduler", "7", "image/png"):
        expect(recipe).to_contain_text(text)
