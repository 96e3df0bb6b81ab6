"""The page in a real Chromium, over a real service with a played worker."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser import chromium, visitor
from tests.service.api.stack import Stack
from tests.service.api.web.screen import Screen


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a file: one that lasts longer would meet asynchronous tests of others."""
    with chromium() as running:
        yield running


@pytest.fixture
def context(browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    """Somebody who has never seen the page."""
    with visitor(
        browser,
        stack.endpoints.http_url,
        viewport={"width": 1000, "height": 700},
        permissions=["clipboard-read", "clipboard-write"],
    ) as context:
        yield context


@pytest.fixture
def page(context: BrowserContext, stack: Stack) -> Iterator[Page]:
    """A tab; it must neither log an error nor ask anybody but the service."""
    stack.add_worker()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    foreign: list[str] = []
    page.on("request", lambda request: foreign.append(request.url))
    yield page
    # Answers that are no success are logged as failures to load; tests provoke them on purpose.
    assert [error for error in errors if "failed to load" not in error.lower()] == []
    here = (stack.endpoints.http_url, "data:")
    assert [url for url in foreign if not url.startswith(here)] == []


@pytest.fixture
def screen(page: Page) -> Screen:
    """What is on it."""
    return Screen(page)
