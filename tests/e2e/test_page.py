"""The page with the model that ships: a prompt typed into a browser becomes a picture."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from service.cli.embedded import Embedded
from tests.browser import chromium

#: Set it to a folder, as docs/images, to take the pictures that the documentation shows.
SCREENSHOTS = "HIDIFFUSION_TEST_SCREENSHOTS"

#: Every step and tile is computed here, maybe on a processor that others use too.
PATIENCE_MILLISECONDS = 280_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for these tests."""
    with chromium() as running:
        yield running


def _open(browser: Browser, service: Embedded, **context: object) -> Page:
    page = browser.new_context(
        base_url=service.url,
        reduced_motion="reduce",
        **context,  # type: ignore[arg-type]
    ).new_page()
    page.goto("/")
    expect(page.locator("#service")).to_contain_text("1 worker ready")
    return page


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
    page = _open(browser, service)

    _ask(page, "a red guitar", "256", Steps="2")

    _wait_until_done(page)
    colours = page.evaluate(
        """async () => {
          const viewer = window.OpenSeadragon.getViewer(document.getElementById("viewer"));
          const { canvas } = viewer.drawer;
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(data.buffer)).size;
        }"""
    )
    assert colours > 100


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    SCREENSHOTS not in os.environ, reason=f"takes pictures where {SCREENSHOTS} says"
)
def test_pictures_for_the_documentation(browser: Browser, service: Embedded) -> None:
    folder = Path(os.environ[SCREENSHOTS])
    page = _open(browser, service, viewport={"width": 1280, "height": 860}, color_scheme="light")
    _ask(page, "a panda", "256")
    _wait_until_done(page)
    page.goto("/")
    _ask(page, "a red car", "512")
    expect(page.locator("#status")).to_contain_text("Tile 1", timeout=PATIENCE_MILLISECONDS)
    page.screenshot(path=folder / "web-tiles.png")
    _wait_until_done(page)

    page.get_by_role("button", name="Compare with Direct").click()
    expect(page.get_by_role("slider")).to_be_visible(timeout=PATIENCE_MILLISECONDS)
    page.emulate_media(color_scheme="dark")
    page.wait_for_load_state("networkidle")
    page.screenshot(path=folder / "web-compare.png")
    page.go_back()

    phone = _open(
        browser, service, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True
    )
    phone.goto(page.url)
    phone.reload()
    _wait_until_done(phone)
    phone.wait_for_load_state("networkidle")
    phone.screenshot(path=folder / "web-phone.png")
