"""A result's recipe, and the code that makes it again: what is shown is run."""

from pathlib import Path

from playwright.sync_api import expect

from service.domain.requests.request_examples import EXAMPLE_PICTURE
from tests.service.api.painter import Painter
from tests.service.api.stack import Stack
from tests.service.api.web.screen import Screen
from tests.service.api.web.snippets import CLIENTS, copied, run

#: A prompt that breaks careless quoting in shells and in Python.
PROMPT = 'a fox\'s "den", with a $HOME, a \\ and a ☃'


def _finished(stack: Stack) -> Painter:
    options = {"t1_ratio": 0.7, "window_grid": "native"}
    painter = Painter(
        stack.worker,
        stack.submit(
            prompt=PROMPT,
            width=256,
            height=256,
            seed=7,
            method="hidiffusion",
            method_options=options,
            prompt_weighting=True,
            loras=[{"name": "ink", "weight": 0.5}],
            controls=[{"name": "depth", "image": EXAMPLE_PICTURE, "scale": 0.5}],
            image_prompt={"image": EXAMPLE_PICTURE, "scale": 0.25},
        ),
    )
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
