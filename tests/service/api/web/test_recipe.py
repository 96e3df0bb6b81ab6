"""A result's recipe, and the code that makes it again: what is shown is run."""

from pathlib import Path

from playwright.sync_api import expect

from tests.service.api.painter import Painter
from tests.service.api.stack import Stack
from tests.service.api.web.screen import Screen
from tests.service.api.web.snippets import CLIENTS, PROMPT, copied, recipe_with_everything, run


def _finished(stack: Stack) -> Painter:
    painter = Painter(stack.worker, recipe_with_everything(stack))
    painter.finish()
    return painter


def test_copied_code_makes_the_same_picture(screen: Screen, stack: Stack, tmp_path: Path) -> None:
    first = _finished(stack)
    screen.open(first.generation.id)

    original = stack.http.get(f"/v1/generations/{first.generation.id}/image").content
    for number, client in enumerate(CLIENTS, 2):
        (picture,) = run(copied(screen, client), client, stack, tmp_path)
        assert stack.count() == number
        twin = stack.records.list(status=None, cursor=None, limit=1).generations[0]
        assert twin.request == first.generation.request, client
        assert picture.read_bytes() == original, client


def test_recipe_tells_everything_that_decided_the_picture(screen: Screen, stack: Stack) -> None:
    screen.open(_finished(stack).generation.id)

    recipe = screen.page.locator("#recipe dl")

    for text in (
        PROMPT,
        "256 \u00d7 256",
        "HiDiffusion",
        "DDIMScheduler",
        "7",
        "image/png",
        "ink 0.5",
        "depth 0.5",
        "scale 0.25",
    ):
        expect(recipe).to_contain_text(text)
