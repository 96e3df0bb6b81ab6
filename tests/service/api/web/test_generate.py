"""From a prompt to a picture that appears tile by tile."""

import io
import re

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import BrowserContext, Page, expect

from tests.service.api.painter import QUARTERS, Painter
from tests.service.api.stack import CATALOG, Stack
from tests.service.api.web.screen import Screen

#: The finest level of a 1024-pixel picture in tiles of 512 is two by two.
UPPER_HALF = 2


def _is_grey(colour: tuple[int, int, int] | None) -> bool:
    return colour is not None and max(colour) - min(colour) <= 4


def _begin(screen: Screen, stack: Stack) -> Painter:
    """Ask for a picture and paint its upper half."""
    painter = Painter(stack.worker, screen.ask("a red guitar"))
    painter.step(1, 4)
    painter.preview(1)
    painter.land(UPPER_HALF)
    return painter


def test_tiles_are_seen_while_the_picture_is_being_made(screen: Screen, stack: Stack) -> None:
    screen.open()
    first = stack.submit()
    generation_id = screen.ask("a red guitar")
    expect(screen.status).to_contain_text("2nd in the queue")

    stack.http.delete(f"/v1/generations/{first}")
    expect(screen.status).to_contain_text("Next in the queue")
    painter = Painter(stack.worker, generation_id)
    painter.step(3, 4)
    expect(screen.status).to_have_text("Step 3 of 4, 0 s left")
    painter.preview(3)
    expect(screen.page.get_by_alt_text("Preview of a red guitar")).to_be_visible()

    painter.land(UPPER_HALF)
    screen.wait_for_colour(0.25, 0.25, QUARTERS[0])
    screen.wait_for_colour(0.75, 0.25, QUARTERS[1])
    screen.wait(lambda: _is_grey(screen.colour(0.25, 0.75)), "the preview under the tiles")
    expect(screen.status).to_contain_text("Tile 2 of")
    assert stack.http.get(f"/v1/generations/{generation_id}").json()["status"] == "running"

    painter.finish()
    screen.wait_for_colour(0.25, 0.75, QUARTERS[2])
    screen.wait_for_colour(0.75, 0.75, QUARTERS[3])
    expect(screen.page.get_by_role("link", name="Download")).to_be_visible()
    expect(screen.page.locator("#announcer")).to_have_text("Done. The picture is complete.")


def test_one_to_one_shows_the_very_pixels_of_the_file(screen: Screen, stack: Stack) -> None:
    painter = Painter(stack.worker, stack.submit(width=1024, height=1024))
    painter.finish()
    screen.open(painter.generation.id)
    screen.wait_for_colour(0.25, 0.25, QUARTERS[0])

    def width() -> int:
        left, right = screen.point(0, 0.25), screen.point(1, 0.25)
        return right[0] - left[0] if left and right else 0

    assert width() < 1024

    screen.page.get_by_role("button", name="One to one").click()

    screen.wait(lambda: width() == 1024, "the zoom")
    file = Image.open(io.BytesIO(stack.http.get(_image(painter)).content)).convert("RGB")
    assert ImageChops.difference(file, painter.picture).getbbox() is None
    screen.wait_for_colour(0.49, 0.4, QUARTERS[0])
    screen.wait_for_colour(0.51, 0.4, QUARTERS[1])


def _image(painter: Painter) -> str:
    return f"/v1/generations/{painter.generation.id}/image"


def test_zooming_in_fetches_finer_tiles(screen: Screen, stack: Stack) -> None:
    painter = Painter(stack.worker, stack.submit(width=2048, height=2048))
    painter.finish()
    fetched: list[str] = []
    screen.page.on("request", lambda request: fetched.append(request.url))
    screen.open(painter.generation.id)
    screen.wait_for_colour(0.25, 0.25, QUARTERS[0])
    finest = painter.pyramid.levels[-1].level
    assert not any(f"tiles_files/{finest}/" in url for url in fetched)

    with screen.page.expect_request(re.compile(f"tiles_files/{finest}/")):
        screen.page.get_by_role("button", name="One to one").click()


def test_reload_half_way_loses_no_tile(screen: Screen, stack: Stack) -> None:
    screen.open()
    painter = _begin(screen, stack)
    screen.wait_for_colour(0.25, 0.25, QUARTERS[0])

    screen.page.reload()

    screen.wait_for_colour(0.25, 0.25, QUARTERS[0])
    screen.wait_for_colour(0.75, 0.25, QUARTERS[1])
    screen.wait(lambda: _is_grey(screen.colour(0.25, 0.75)), "the preview under the tiles")
    expect(screen.page.get_by_role("heading", name="a red guitar")).to_be_visible()
    expect(screen.page.get_by_label("Prompt", exact=True)).to_have_value("a red guitar")
    painter.finish()
    screen.wait_for_colour(0.75, 0.75, QUARTERS[3])


def test_dropped_connection_loses_no_tile(
    screen: Screen, stack: Stack, context: BrowserContext
) -> None:
    screen.open()
    painter = _begin(screen, stack)
    screen.wait_for_colour(0.25, 0.25, QUARTERS[0])

    context.set_offline(True)
    painter.finish()
    context.set_offline(False)

    screen.wait_for_colour(0.75, 0.75, QUARTERS[3])
    expect(screen.page.get_by_role("link", name="Download")).to_be_visible()


def test_stop_ends_it_and_says_so(screen: Screen, stack: Stack) -> None:
    screen.open()
    screen.ask("a red guitar")

    screen.page.get_by_role("button", name="Stop", exact=True).click()

    expect(screen.status).to_have_text("Stopped")
    expect(screen.cards.first).to_contain_text("Stopped")
    assert stack.http.get(f"/v1/generations/{screen.shown_id()}").json()["status"] == "cancelled"


def test_failure_tells_its_reason(screen: Screen, stack: Stack) -> None:
    screen.open()
    generation = stack.worker.start(screen.ask("a red guitar"))

    stack.worker.fail(generation)

    expect(screen.status).to_have_text("Failed: the picture is too large")


def test_what_is_refused_is_shown_at_its_field(screen: Screen) -> None:
    screen.open()
    screen.page.get_by_label("Prompt", exact=True).fill("a fox")
    screen.page.get_by_text("More settings").click()
    screen.page.get_by_label("Width").fill("100")

    screen.page.get_by_role("button", name="Generate").click()

    width = screen.page.get_by_label("Width")
    expect(width).to_be_focused()
    expect(width).to_have_attribute("aria-invalid", "true")
    expect(width).to_have_accessible_description(re.compile("multiples of 8 from 128 to"))


def test_form_offers_what_the_model_allows_and_sends_it(screen: Screen, stack: Stack) -> None:
    screen.open()
    page: Page = screen.page
    labels = page.locator("#sizes label").all_inner_texts()
    assert labels == ["256", "512", "1024", "2048", "4096"][: len(labels)]
    assert int(labels[-1]) == CATALOG.default.max_size
    page.get_by_label("16:9").check()
    page.get_by_label("Method").select_option("direct")
    page.get_by_label("Seed", exact=True).fill("12")
    page.get_by_text("More settings").click()
    page.get_by_label("Steps").fill("9")
    page.get_by_label("Guidance").fill("2.5")
    page.get_by_label("Scheduler").select_option("EulerDiscreteScheduler")

    generation_id = screen.ask("a fox")

    request = stack.http.get(f"/v1/generations/{generation_id}").json()["request"]
    assert request["width"] / request["height"] > 1.7
    assert request["width"] * request["height"] == pytest.approx(1024 * 1024, rel=0.02)
    assert (request["method"], request["seed"]) == ("direct", 12)
    assert (request["num_inference_steps"], request["guidance_scale"]) == (9, 2.5)
    assert request["scheduler"] == "EulerDiscreteScheduler"


def test_a_method_that_cannot_draw_a_size_steps_aside_for_it(screen: Screen) -> None:
    screen.open()
    page: Page = screen.page
    method = page.get_by_label("Method")
    method.select_option("hidiffusion-guided")
    page.locator("#sizes").get_by_text("256").click()
    expect(method).to_have_value("hidiffusion")
    expect(method.locator("[value=hidiffusion-guided]")).to_be_disabled()
    page.locator("#sizes").get_by_text("1024").click()
    expect(method).to_have_value("hidiffusion-guided")


def test_a_picture_without_tiles_is_shown_whole(screen: Screen, stack: Stack) -> None:
    painter = Painter(stack.worker, stack.submit(tiles=False))
    painter.finish()
    screen.open(painter.generation.id)
    for quarter, (x, y) in enumerate([(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)]):
        screen.wait_for_colour(x, y, QUARTERS[quarter])


def test_several_pictures_are_asked_for_at_once(screen: Screen, stack: Stack) -> None:
    screen.open()
    pictures = screen.page.get_by_label("Pictures", exact=True)
    pictures.fill("17")
    screen.page.get_by_label("Prompt", exact=True).fill("a fox")
    screen.page.get_by_role("button", name="Generate").click()
    expect(screen.page.locator("#n-wrong")).to_contain_text("16")
    assert stack.count() == 0

    pictures.fill("3")
    screen.page.get_by_label("Seed", exact=True).fill("7")
    first = screen.ask("a fox", "512")

    expect(screen.cards).to_have_count(3)
    made = stack.http.get("/v1/generations").json()["generations"]
    assert sorted(each["request"]["seed"] for each in made) == [7, 8, 9]
    assert min(made, key=lambda each: each["request"]["seed"])["id"] == first
