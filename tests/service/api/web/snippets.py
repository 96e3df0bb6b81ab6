"""Code copied from the page, run as a person would run it."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from service.domain.requests.request_examples import EXAMPLE_PICTURE
from tests.service.api.painter import Painter
from tests.service.api.stack import Stack
from tests.service.api.web.screen import Screen

ROOT = Path(__file__).parents[4]

#: A prompt that breaks careless quoting in shells, in Python and in TypeScript.
PROMPT = 'a fox\'s "den", with a $HOME, a \\ and a ☃'

#: The clients that the page writes code for, but for TypeScript, whose tools come from npm.
CLIENTS = (
    *(("curl",) if shutil.which("curl") else ()),
    "Python, HTTP",
    "Python, gRPC",
    "OpenAI SDK",
)


def recipe_with_everything(stack: Stack) -> str:
    """The id of a generation that has been asked for, with a bit of whatever code must write."""
    return stack.submit(
        prompt=PROMPT,
        width=256,
        height=256,
        seed=7,
        method="hidiffusion",
        method_options={"t1_ratio": 0.7, "window_grid": "native"},
        prompt_weighting=True,
        loras=[{"name": "ink", "weight": 0.5}],
        controls=[{"name": "depth", "image": EXAMPLE_PICTURE, "scale": 0.5}],
        image_prompt={"image": EXAMPLE_PICTURE, "scale": 0.25},
    )


def copied(screen: Screen, client: str) -> str:
    """What the page's copy button puts into the clipboard."""
    screen.page.get_by_role("tab", name=client).click()
    screen.page.evaluate("() => navigator.clipboard.writeText('')")
    screen.page.get_by_role("button", name="Copy").click()
    read: Callable[[], str] = partial(screen.page.evaluate, "() => navigator.clipboard.readText()")
    screen.wait(lambda: read() != "", "code in the clipboard")
    return read()


def run(code: str, client: str, stack: Stack, folder: Path, **environment: str) -> list[Path]:
    """Run it in a folder of its own in `folder`; returns what it wrote there.

    A played worker paints the generation that it asks for.
    """
    own = folder / client
    own.mkdir()
    (latest,) = stack.records.list(status=None, cursor=None, limit=1).generations
    worker = threading.Thread(target=_paint_what_follows, args=(stack, latest.id))
    worker.start()
    command = ["bash", "-euc", code] if client == "curl" else [sys.executable, "-c", code]
    ran = subprocess.run(
        command,
        cwd=own,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    worker.join()
    assert ran.returncode == 0, ran.stderr
    return list(own.iterdir())


def _paint_what_follows(stack: Stack, known: str) -> None:
    while True:
        (latest,) = stack.records.list(status=None, cursor=None, limit=1).generations
        if latest.id != known:
            Painter(stack.worker, latest.id).finish()
            return
        threading.Event().wait(0.02)
