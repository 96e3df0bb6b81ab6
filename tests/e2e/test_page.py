"""The page with the model that ships: a prompt typed into a browser becomes a picture."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pyvips
from playwright.sync_api import Browser, Page, Route, expect

from service.cli.embedded import Embedded
from tests.browser import chromium, visitor

#: Set it to a folder, as docs/images, to take the pictures that the documentation shows.
SCREENSHOTS = "HIDIFFUSION_TEST_SCREENSHOTS"

#: Every step and tile is computed here, maybe on a processor that others use too.
PATIENCE_MILLISECONDS = 800_000

#: The viewer shows more than an empty canvas.
_MANY_COLOURS = """() => {
  const viewer = window.OpenSeadragon.getViewer(document.getElementById("viewer"));
  const { canvas } = viewer.drawer;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size > 100;
}"""

#: Whatever the viewer has on its screen is loaded.
_ALL_DRAWN = """() => {
  const { world } = window.OpenSeadragon.getViewer(document.getElementById("viewer"));
  const items = [...Array(world.getItemCount()).keys()].map((index) => world.getItemAt(index));
  return items.length > 0 && items.every((item) => item.getFullyLoaded());
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for these tests."""
    with chromium() as running:
        yield running


@contextmanager
def _opened(browser: Browser, service: Embedded, **options: object) -> Iterator[Page]:
    with visitor(browser, service.url, **options) as context:
        page = context.new_page()
        page.goto("/")
        expect(page.get_by_role("button", name="Generate")).to_be_enabled()
        yield page


def _ask(page: Page, prompt: str, size: str, **fields: str) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label(size, exact=True).check()
    page.get_by_label("Seed", exact=True).fill("7")
    page.get_by_text("More settings").click()
    for label, value in fields.items():
        page.get_by_label(label).fill(value)
    page.get_by_text("More settings").click()
    page.get_by_role("button", name="Generate").click()


def _wait_until_done(page: Page) -> None:
    download = page.get_by_role("link", name="Download")
    expect(download).to_be_visible(timeout=PATIENCE_MILLISECONDS)


@pytest.mark.slow
def test_a_prompt_becomes_a_picture_in_the_browser(browser: Browser, service: Embedded) -> None:
    with _opened(browser, service) as page:
        _ask(page, "a red guitar", "256", Steps="2")

        _wait_until_done(page)
        page.wait_for_function(_MANY_COLOURS)


def _take(page: Page, path: Path) -> None:
    """A picture of the page in 256 colours, a third of the bytes."""
    taken = pyvips.Image.new_from_buffer(page.screenshot(), "")
    taken[:3].pngsave(str(path), palette=True, Q=95, effort=10, compression=9, keep="none")


def _hold_after_a_third_of_the_tiles(page: Page) -> None:
    """Tiles come in bursts: let a page hear of a third, and wait for the rest until `unroute`."""
    asked: list[Route] = []

    def answer(route: Route) -> None:
        asked.append(route)
        if len(asked) > 1:
            return
        response = route.fetch(timeout=PATIENCE_MILLISECONDS)
        events = response.text().split("\n\n")
        tiles = [index for index, event in enumerate(events) if "event: tile" in event]
        told = events[: tiles[len(tiles) // 3] + 1]
        route.fulfill(response=response, body="\n\n".join([*told, ""]))

    page.route("**/events", answer)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    SCREENSHOTS not in os.environ, reason=f"takes pictures where {SCREENSHOTS} says"
)
def test_pictures_for_the_documentation(browser: Browser, service: Embedded) -> None:
    folder = Path(os.environ[SCREENSHOTS])
    screen = {"width": 1280, "height": 860}
    with _opened(browser, service, viewport=screen, color_scheme="light") as page:
        _ask(page, "a panda", "256")
        _wait_until_done(page)
        _hold_after_a_third_of_the_tiles(page)
        _ask(page, "a red car", "1024", Steps="12")
        status = page.locator("#status").filter(visible=True)
        expect(status).to_contain_text("Tile", timeout=PATIENCE_MILLISECONDS)
        page.wait_for_function(_ALL_DRAWN)
        page.get_by_text("Read a recipe").scroll_into_view_if_needed()
        page.locator("#connection").evaluate("(said) => { said.hidden = true }")  # of what is held
        _take(page, folder / "web-tiles.png")
        page.unroute("**/events")
        _wait_until_done(page)
        address = page.url

        page.get_by_role("button", name="Compare with Direct").click()
        expect(page.get_by_role("slider")).to_be_visible(timeout=PATIENCE_MILLISECONDS)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(_ALL_DRAWN)
        _take(page, folder / "web-compare.png")

    phone = {"width": 390, "height": 844}
    with _opened(browser, service, viewport=phone, is_mobile=True, has_touch=True) as page:
        page.goto(address)
        _wait_until_done(page)
        page.wait_for_function(_ALL_DRAWN)
        _take(page, folder / "web-phone.png")
