"""Upscaling a result on the page, where the catalogue has an upscaler."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from service.settings import StoreSettings
from tests.servers import RedisServer
from tests.service.api.painter import Painter
from tests.service.api.stack import CATALOG_THAT_ENLARGES, Stack, running_stack
from tests.service.api.web.screen import DIALOG, Screen
from tests.service.api.web.snippets import copied, run


@pytest.fixture
def stack(shared_redis: RedisServer, tmp_path: Path) -> Iterator[Stack]:
    """The stack that `page` opens."""
    (tmp_path / "store").mkdir()
    settings = StoreSettings(url=(tmp_path / "store").as_uri())
    with running_stack(shared_redis.url, settings, catalog=CATALOG_THAT_ENLARGES) as running:
        yield running


def test_a_result_is_upscaled_by_what_can(screen: Screen, stack: Stack, tmp_path: Path) -> None:
    page = screen.page
    first = Painter(stack.worker, stack.submit(prompt="a fox", width=256, height=256))
    first.finish()
    screen.open(first.generation.id)
    expect(page.get_by_label("Model").get_by_role("option")).to_have_text(["Emoji"])

    page.get_by_role("button", name="Upscale this").click()
    dialog = page.get_by_role("dialog", name="Upscale this picture")
    assert screen.flaws(DIALOG) == []
    expect(dialog.get_by_role("button")).to_have_count(3)
    dialog.get_by_role("button", name="4\u00d7 by Larger").click()
    page.wait_for_url(lambda url: first.generation.id not in url)
    larger = Painter(stack.worker, screen.shown_id())
    request = larger.generation.request
    assert (request.model, request.scale, request.width) == ("larger", 4, 1024)
    larger.finish()
    expect(page.locator("#stage-facts")).to_contain_text("1024 \u00d7 1024")
    expect(page.locator("#recipe")).to_contain_text("a picture, 4 times larger")
    expect(page.get_by_role("button", name="Upscale")).to_have_count(0)

    run(copied(screen, "Python, HTTP"), "Python, HTTP", stack, tmp_path)
    twin = stack.records.list(status=None, cursor=None, limit=1).generations[0]
    assert twin.request == request
