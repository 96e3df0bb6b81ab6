"""What a person does while something is still under way is neither lost nor undone."""

from collections.abc import Callable

from playwright.sync_api import Page, Route, expect

from tests.service.api.http.pictures.test_uploads import picture
from tests.service.api.painter import Painter
from tests.service.api.stack import Stack
from tests.service.api.web.screen import Screen
from tests.service.api.web.test_guides import choose, group


def _hold(screen: Screen, address: str, count: int = 1) -> Callable[[], list[Route]]:
    """Hold back the next requests to an address; what it returns waits for them."""
    held: list[Route] = []

    def take(route: Route) -> None:
        if len(held) < count:
            held.append(route)
        else:
            route.continue_()

    def requests() -> list[Route]:
        screen.wait(lambda: len(held) == count, address)
        return held

    screen.page.route(address, take)
    return requests


def _finished(stack: Stack, prompt: str) -> str:
    painter = Painter(stack.worker, stack.submit(prompt=prompt, width=256, height=256))
    painter.finish()
    return painter.generation.id


def test_what_is_typed_before_the_models_are_known_stays(screen: Screen, stack: Stack) -> None:
    screen.open()
    prompt = screen.page.get_by_label("Prompt", exact=True)
    prompt.fill("an older draft")
    models = _hold(screen, "**/v1/models", count=2)  # for the form, and for how many wait
    screen.page.reload()
    prompt.fill("a fox")
    prompt.press("Control+Enter")
    expect(screen.generate).to_be_disabled()
    for request in models():
        request.abort()  # out of reach for once
    expect(screen.generate).to_be_enabled()
    expect(prompt).to_have_value("a fox")
    assert stack.count() == 0


def test_what_is_searched_for_before_the_gallery_came_is_found(
    screen: Screen, stack: Stack
) -> None:
    oldest = stack.submit(prompt="a red guitar", seed=77)
    for number in range(24):
        stack.submit(prompt=f"fox {number}")
    listing = _hold(screen, "**/v1/generations?*")
    screen.open()
    (first,) = listing()
    with screen.page.expect_request("**/v1/models"):
        screen.page.get_by_label("Search").fill("guitar")  # and wait longer than typing takes
    first.continue_()
    expect(screen.page.locator(".card:not([hidden]) a")).to_have_attribute("href", f"#/{oldest}")


def test_a_late_listing_brings_nothing_deleted_back(screen: Screen, stack: Stack) -> None:
    _finished(stack, "a fox")
    screen.open()
    expect(screen.cards).to_have_count(1)
    before = stack.http.get("/v1/generations?limit=24").text
    listing = _hold(screen, "**/v1/generations?*")
    screen.page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    (late,) = listing()
    screen.page.get_by_role("button", name="Delete: a fox").click()
    with screen.page.expect_response("**/v1/generations?*"):
        screen.page.get_by_role("button", name="Delete", exact=True).click()
    late.fulfill(body=before, content_type="application/json")
    screen.page.evaluate("() => fetch('/session').then(() => null)")  # a round trip later
    expect(screen.cards).to_have_count(0)


def test_a_picture_that_opens_late_takes_neither_the_focus_nor_the_stage(
    screen: Screen, stack: Stack
) -> None:
    page: Page = screen.page
    _finished(stack, "a fox")
    second = _finished(stack, "a cat")
    screen.open()
    gone = _hold(screen, "**/v1/generations/gone")
    page.evaluate("() => { location.hash = '#/gone' }")
    (missing,) = gone()
    slow = _hold(screen, f"**/v1/generations/{second}")
    screen.cards.first.get_by_role("link").click()
    (record,) = slow()
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.click()
    record.continue_()
    expect(page.get_by_role("link", name="Download")).to_be_visible()
    with page.expect_response("**/v1/generations/gone"):
        missing.continue_()
    page.evaluate("() => fetch('/session').then(() => null)")  # a round trip later
    expect(prompt).to_be_focused()
    expect(page.get_by_role("heading", name="a cat")).to_be_visible()


def test_a_map_on_its_way_outlives_a_change_of_the_model(screen: Screen) -> None:
    page = screen.page

    def double(route: Route) -> None:
        models = route.fetch().json()["models"]
        route.fulfill(json={"models": [*models, models[0] | {"name": "other", "title": "Other"}]})

    page.route("**/v1/models", double)
    screen.open()
    page.get_by_text("Guide it by pictures").click()
    upload = _hold(screen, "**/v1/uploads")
    choose(page, "Edges", picture(64, 64))
    (sent,) = upload()
    page.get_by_label("Model").select_option("other")
    sent.continue_()
    expect(group(page, "Edges").get_by_alt_text("Edges: Map")).to_be_visible()
    expect(group(page, "Edges").get_by_label("Scale")).to_be_visible()
    page.unroute_all(behavior="wait")
