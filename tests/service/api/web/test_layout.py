"""Where things stand: nothing lies over anything else, and fingers hit what they aim at."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

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


@pytest.fixture
def finished(stack: Stack) -> str:
    """Results enough for a gallery of several rows; returns the id of one."""
    stack.add_worker()
    for _ in range(7):
        painter = Painter(stack.worker, stack.submit(width=256, height=256))
        painter.finish()
    return painter.generation.id


@pytest.fixture
def opened(browser: Browser, stack: Stack, finished: str) -> Iterator[Page]:
    """A result on the screen of a desk and then of a phone, as `set_viewport_size` says."""
    with browser.new_context(
        base_url=stack.endpoints.http_url, has_touch=True, reduced_motion="reduce"
    ) as context:
        screen = Screen(context.new_page())
        screen.open(finished)
        expect(screen.page.get_by_role("link", name="Download")).to_be_visible()
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
