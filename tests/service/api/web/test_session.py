"""The page where the service asks for keys: sign in once, and tiles and events come too."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from service.application.access import new_key
from service.domain.access import Scope
from service.settings import StoreSettings
from service.storage.key_file import KeyFile
from tests.servers import RedisServer
from tests.service.api.painter import Painter
from tests.service.api.stack import Stack, running_stack
from tests.service.api.web.screen import DIALOG, Screen
from tests.service.api.web.snippets import CLIENTS, copied, run


@dataclass(frozen=True)
class Keyed:
    """A service that asks for keys, and one that it knows."""

    stack: Stack
    token: str


@pytest.fixture(scope="module")
def keyed(shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    folder = tmp_path_factory.mktemp("session")
    (folder / "store").mkdir()
    keys = KeyFile(folder / "keys.json")
    key, token = new_key("acme", (Scope.READ, Scope.WRITE), datetime.now(UTC))
    keys.add(key)
    settings = StoreSettings(url=(folder / "store").as_uri())
    with running_stack(shared_redis.url, settings, keys) as stack:
        stack.http.headers["authorization"] = f"Bearer {token}"
        yield Keyed(stack, token)


@pytest.fixture
def stack(keyed: Keyed) -> Stack:
    """The stack that `page` opens."""
    return keyed.stack


def _sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_a_key_opens_the_page_and_all_it_shows(screen: Screen, keyed: Keyed) -> None:
    page, dialog = screen.page, screen.page.get_by_role("dialog")
    page.goto("/")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    _sign_in(page, keyed.token[:-1] + "ß")
    expect(dialog).to_contain_text("does not know this key")
    _sign_in(page, keyed.token[:-8])
    expect(dialog).to_contain_text("does not know this key")
    assert screen.flaws(DIALOG) == []

    _sign_in(page, keyed.token)
    expect(dialog).to_be_hidden()
    painter = Painter(keyed.stack.worker, screen.ask("a fox", "512"))
    painter.land(1)
    expect(screen.status).to_contain_text("Tile 1")
    painter.finish()
    screen.wait(lambda: screen.colour(0.25, 0.25) is not None, "the picture")
    page.reload()
    expect(screen.cards.first).to_contain_text("a fox")
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["expires"]) == (True, "Strict", -1)

    page.get_by_role("button", name="Sign out acme").click()
    expect(dialog).to_be_visible()
    assert page.context.cookies() == []


def test_copied_code_names_a_key_and_runs(screen: Screen, keyed: Keyed, tmp_path: Path) -> None:
    stack = keyed.stack
    first = Painter(stack.worker, stack.submit(prompt="a fox", width=256, height=256, seed=7))
    first.finish()
    screen.page.goto(f"/#/{first.generation.id}")
    _sign_in(screen.page, keyed.token)

    for client in CLIENTS:
        code = copied(screen, client)
        assert keyed.token not in code
        (picture,) = run(code, client, stack, tmp_path, HIDIFFUSION_KEY=keyed.token)
        assert picture.stat().st_size > 0


def test_other_pages_cannot_use_the_cookie(keyed: Keyed) -> None:
    url = keyed.stack.endpoints.http_url
    with httpx.Client(base_url=url) as browser:
        given = browser.post("/session", headers={"authorization": f"Bearer {keyed.token}"})
        assert given.status_code == 204
        body = {"prompt": "a fox"}
        for origin, status in ((url, 202), ("http://127.0.0.1:1", 401), ("null", 401), (None, 401)):
            headers = {"origin": origin} if origin else {}
            assert browser.post("/v1/generations", json=body, headers=headers).status_code == status
        assert browser.get("/v1/generations").status_code == 200
        assert browser.get("/session").json() == {"asks_for_key": True, "tenant": "acme"}
        browser.delete("/session")
        assert browser.get("/v1/generations").status_code == 401


def test_who_sends_no_good_key_gets_no_cookie(keyed: Keyed) -> None:
    with httpx.Client(base_url=keyed.stack.endpoints.http_url) as browser:
        for headers in ({}, {"authorization": "Bearer nonsense"}):
            refused = browser.post("/session", headers=headers)
            assert refused.status_code == 401
            assert "set-cookie" not in refused.headers


def test_a_service_without_keys_asks_nobody(shared_stack: Stack) -> None:
    assert shared_stack.http.get("/session").json() == {"asks_for_key": False, "tenant": None}
    assert shared_stack.http.post("/session").status_code == 204
