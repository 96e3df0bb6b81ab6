"""Where things stand: nothing lies over anything else, and fingers hit what they aim at."""

from collections.abc import Iterator

import pytest
import redis
from playwright.sync_api import Browser, Page, expect

from tests.browser import visitor
from tests.servers import RedisServer
from tests.service.api.painter import Painter
from tests.service.api.stack import Stack
from tests.service.api.web.screen import Screen

WIDE = ((1440, 900), (1280, 720))
NARROW = ((768, 1024), (390, 844))

#: Boxes of two elements on the screen overlap.
_OVERLAP = """([one, other]) => {
  const [a, b] = [one, other].map((each) => document.querySelector(each).getBoundingClientRect());
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}"""

#: What can be pressed and is less than 24 CSS pixels wide or high (WCAG 2.2, 2.5.8).
_SMALL = """() => [...document.querySelectorAll("a, button, summary, select, input")]
  .filter((each) => each.checkVisibility() && !each.classList.contains("skip"))
  .map((each) => [each, (each.closest("label") ?? each).getBoundingClientRect()])
  .filter(([, { width, height }]) => width < 24 || height < 24)
  .map(([each]) => each.outerHTML)"""


@pytest.fixture(scope="module")
def opened(browser: Browser, shared_stack: Stack, shared_redis: RedisServer) -> Iterator[Page]:
    """A result above a gallery of several rows, on a screen as `set_viewport_size` says."""
    with redis.Redis.from_url(shared_redis.url) as client:
        client.flushall()
    stack = shared_stack
    stack.add_worker()
    for _ in range(7):
        painter = Painter(stack.worker, stack.submit(width=256, height=256))
        painter.finish()
    with visitor(browser, stack.endpoints.http_url, has_touch=True) as context:
        screen = Screen(context.new_page())
        screen.open(painter.generation.id)
        expect(screen.page.get_by_role("link", name="Download")).to_be_visible()
        expect(screen.cards).to_have_count(7)
        screen.page.evaluate("() => document.fonts.ready.then(() => null)")
        yield screen.page


def test_nothing_lies_over_the_form_however_far_one_scrolls(opened: Page) -> None:
    for width, height in WIDE:
        opened.set_viewport_size({"width": width, "height": height})
        for share in (0, 0.5, 1):
            opened.evaluate("(y) => scrollTo(0, y * document.body.scrollHeight)", share)
            for other in (".gallery", "#stage", ".bar"):
                assert not opened.evaluate(_OVERLAP, ["#request", other])
            expect(opened.get_by_role("button", name="Generate")).to_be_in_viewport(ratio=1)


def test_no_word_is_cut_and_no_code_is_covered(opened: Page) -> None:
    opened.get_by_label("Method").select_option("hidiffusion-guided")
    for width, height in (*WIDE, *NARROW):
        opened.set_viewport_size({"width": width, "height": height})
        wanted, room = opened.evaluate(
            """() => {
              const select = document.getElementById("method");
              const style = getComputedStyle(select);
              const canvas = document.createElement("canvas").getContext("2d");
              canvas.font = style.font;
              const text = select.selectedOptions[0].text;
              const inside = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight) + 2;
              return [canvas.measureText(text).width, select.clientWidth - inside];
            }"""
        )
        assert wanted < room
        assert not opened.evaluate(_OVERLAP, [".copy", "#code"])
        assert not opened.evaluate(_OVERLAP, ["#stage-title", "#stage-facts"])
        assert opened.evaluate("() => document.documentElement.scrollWidth") <= width


def test_what_can_be_pressed_is_large_enough_for_a_finger(opened: Page) -> None:
    opened.set_viewport_size({"width": 390, "height": 844})
    opened.evaluate(
        "() => { for (const each of document.querySelectorAll('details')) each.open = true }"
    )
    assert opened.evaluate(_SMALL) == []
    box = opened.get_by_role("link", name="API").bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) >= 44
