"""A real Chromium for the tests of the page: Debian's, driven by Playwright."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

#: A page that has not reacted after this long is broken, not slow.
PATIENCE_MILLISECONDS = 60_000

#: A picture that is computed for the page, maybe on a processor that others use too.
DRAWING_MILLISECONDS = 280_000

#: Set it where a missing browser must fail the run rather than skip a part of it.
REQUIRED = "HIDIFFUSION_TEST_BROWSER_REQUIRED"

#: Set it to a number, as 8, to slow the pages' processor down that many times, in search of races.
SLOWDOWN = "HIDIFFUSION_TEST_BROWSER_SLOWDOWN"

expect.set_options(timeout=PATIENCE_MILLISECONDS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser; the test is skipped where there is none and none is required.

    Playwright keeps an event loop in this thread meanwhile, so no asynchronous test may run inside
    the block: a fixture around it lasts no longer than the tests of a file.
    """
    if not CHROMIUM.exists() and not os.environ.get(REQUIRED):
        pytest.skip(f"{CHROMIUM} is missing; install it with: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visitor(browser: Browser, url: str, **options: Any) -> Iterator[BrowserContext]:
    """Somebody who has never seen the page at `url`; animations are off."""
    with browser.new_context(base_url=url, reduced_motion="reduce", **options) as context:
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        if rate := float(os.environ.get(SLOWDOWN, "0")):
            context.on("page", partial(_slow_down, rate))
        yield context


def _slow_down(rate: float, page: Page) -> None:
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": rate})
