"""A real Chromium for the tests of the page: Debian's, driven by Playwright."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

#: A page that has not reacted after this long is broken, not slow.
PATIENCE_MILLISECONDS = 60_000

#: Set it where a missing browser must fail the run rather than skip a part of it.
REQUIRED = "HIDIFFUSION_TEST_BROWSER_REQUIRED"


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
