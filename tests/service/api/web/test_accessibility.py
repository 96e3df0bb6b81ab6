"""The page for everybody: by keyboard, by ear, in the dark and on a phone."""

from playwright.sync_api import Browser, expect

from tests.browser import visitor
from tests.service.api.painter import Painter
from tests.service.api.stack import Stack
from tests.service.api.web.screen import DIALOG, Screen

PHONE = {"width": 390, "height": 844}


def test_axe_finds_nothing_serious(screen: Screen, stack: Stack) -> None:
    screen.open()
    screen.page.get_by_text("Start from a picture").click()
    screen.page.get_by_text("Guide it by pictures").click()
    screen.page.get_by_text("More settings").click()
    screen.page.get_by_role("button", name="Generate").click()
    expect(screen.page.get_by_label("Prompt", exact=True)).to_have_attribute("aria-invalid", "true")
    assert screen.flaws() == []

    painter = Painter(stack.worker, screen.ask("a fox", "512"))
    painter.preview(1)
    painter.land(1)
    expect(screen.status).to_contain_text("Tile 1")
    assert screen.flaws("#stage") == []

    painter.finish()
    screen.page.get_by_role("button", name="Delete: a fox").click()
    assert screen.flaws(DIALOG) == []
    screen.page.get_by_role("button", name="Keep").click()
    other = Painter(stack.worker, stack.submit(prompt="a fox", method="direct", width=512))
    other.finish()
    screen.open(f"compare/{painter.generation.id}/{other.generation.id}")
    expect(screen.page.get_by_role("slider")).to_be_visible()
    assert screen.flaws() == []


def test_everything_can_be_done_by_keyboard(screen: Screen, stack: Stack) -> None:
    screen.open()
    keyboard = screen.page.keyboard
    keyboard.press("Tab")
    expect(screen.page.get_by_role("link", name="Skip to the picture")).to_be_focused()
    for _ in range(3):  # past the interface and the recipe
        keyboard.press("Tab")
    expect(screen.page.get_by_label("Prompt", exact=True)).to_be_focused()
    keyboard.type("a fox")
    keyboard.press("Tab")
    expect(screen.page.get_by_text("Start from a picture")).to_be_focused()
    for _ in range(2):  # past the model
        keyboard.press("Tab")
    keyboard.press("ArrowRight")
    expect(screen.page.get_by_label("4:3")).to_be_checked()
    for _ in range(3):
        keyboard.press("Shift+Tab")
    keyboard.press("Control+Enter")

    generation_id = screen.shown_id()
    expect(screen.page.get_by_role("heading", name="a fox")).to_be_focused()
    Painter(stack.worker, generation_id).finish()
    expect(screen.page.get_by_role("link", name="Download")).to_be_visible()
    screen.wait(lambda: screen.colour(0.25, 0.25) is not None, "the picture")
    for _ in range(4):  # past the buttons beside the heading
        keyboard.press("Tab")
    keyboard.press("Tab")
    expect(screen.page.locator(".openseadragon-canvas")).to_be_focused()
    before = screen.point(0, 0)
    keyboard.press("+")
    screen.wait(lambda: screen.point(0, 0) != before, "the zoom")

    screen.page.get_by_role("button", name="Delete: a fox").focus()
    keyboard.press("Enter")
    keyboard.press("Tab")
    keyboard.press("Enter")
    expect(screen.cards).to_have_count(0)
    expect(screen.page.get_by_role("heading", name="Recent")).to_be_focused()


def test_progress_is_announced_in_quarters_and_not_step_by_step(
    screen: Screen, stack: Stack
) -> None:
    screen.open()
    screen.page.evaluate(
        """() => {
          window.heard = [];
          const announcer = document.getElementById("announcer");
          new MutationObserver(() => window.heard.push(announcer.textContent))
            .observe(announcer, { childList: true });
        }"""
    )
    painter = Painter(stack.worker, screen.ask("a fox", "512"))
    for step in range(1, 21):
        painter.step(step, 20)
    painter.finish()
    expect(screen.page.locator("#announcer")).to_have_text("Done. The picture is complete.")

    heard = screen.page.evaluate("() => window.heard")
    assert len([text for text in heard if text.startswith("Denoising")]) == 5
    assert "Denoising, 50 percent" in heard


def test_a_phone_shows_everything_without_scrolling_sideways(
    browser: Browser, stack: Stack
) -> None:
    stack.add_worker()
    long_prompt = "a very long prompt about a lighthouse, " + "o" * 120
    painter = Painter(stack.worker, stack.submit(prompt=long_prompt, width=512, height=512))
    painter.finish()
    phone = visitor(
        browser, stack.endpoints.http_url, viewport=PHONE, has_touch=True, is_mobile=True
    )
    with phone as context:
        screen = Screen(context.new_page())
        screen.open(painter.generation.id)
        screen.wait(lambda: screen.colour(0.25, 0.25) is not None, "the picture")
        screen.page.get_by_text("More settings").click()
        assert screen.page.evaluate("() => document.documentElement.scrollWidth") == PHONE["width"]

        screen.page.get_by_label("Prompt", exact=True).fill("a fox")
        screen.page.get_by_role("button", name="Generate").tap()
        expect(screen.page.get_by_role("heading", name="a fox")).to_be_in_viewport()
