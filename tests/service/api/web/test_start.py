"""Starting from a picture on the page."""

import re

from playwright.sync_api import FilePayload, Route, expect

from service.domain.artifacts import MEDIA_TYPES
from tests.service.api.http.pictures.test_uploads import picture
from tests.service.api.stack import Stack
from tests.service.api.web.screen import Screen


def _file(data: bytes) -> FilePayload:
    return {"name": "ball.png", "mimeType": MEDIA_TYPES["png"], "buffer": data}


def _choose(screen: Screen, data: bytes) -> None:
    if not screen.page.locator("#start").get_attribute("open"):
        screen.page.get_by_text("Start from a picture").click()
    screen.page.get_by_label("Picture", exact=True).set_input_files(_file(data))


def _ask(screen: Screen, stack: Stack) -> dict[str, object]:
    screen.page.get_by_label("Prompt", exact=True).fill("a fox")
    screen.page.get_by_role("button", name="Generate").click()
    request: dict[str, object]
    request = stack.http.get(f"/v1/generations/{screen.shown_id()}").json()["request"]
    return request


def test_a_chosen_picture_is_uploaded_shown_and_started_from(screen: Screen, stack: Stack) -> None:
    screen.open()
    _choose(screen, picture(400, 304))
    expect(screen.page.locator("#image-state")).to_have_text(re.compile("^400.+304"))
    expect(screen.page.get_by_alt_text("The picture to start from")).to_be_visible()
    able = screen.page.locator("#method option:enabled")
    expect(able).to_have_count(3)
    screen.page.get_by_label("Strength").fill("0.4")

    request = _ask(screen, stack)

    assert (request["width"], request["height"], request["strength"]) == (400, 304, 0.4)
    upload = stack.http.get(f"/v1/uploads/{request['image']}").json()
    assert (upload["width"], upload["height"]) == (400, 304)
    expect(screen.page.locator("#recipe")).to_be_hidden()


def test_a_reload_and_a_recipe_bring_the_picture_back(screen: Screen, stack: Stack) -> None:
    upload_id = stack.http.post("/v1/uploads", content=picture(400, 304)).json()["id"]
    generation_id = stack.submit(image=upload_id, strength=0.3)
    stack.worker.run(generation_id)
    screen.open(generation_id)
    expect(screen.page.locator("#recipe")).to_contain_text("a picture, strength 0.3")
    screen.page.get_by_role("tab", name="OpenAI SDK").click()
    expect(screen.page.locator("#code")).to_contain_text('image=open("image.png", "rb")')

    screen.page.get_by_role("button", name="Use settings").click()
    expect(screen.page.get_by_text("The picture that was chosen before.")).to_be_visible()
    screen.page.get_by_label("Prompt", exact=True).fill("a wolf")
    screen.page.reload()
    expect(screen.page.get_by_text("The picture that was chosen before.")).to_be_visible()
    screen.page.get_by_role("button", name="Start from noise instead").click()

    expect(screen.page.get_by_label("Strength")).to_be_disabled()
    screen.page.get_by_role("button", name="Generate").click()
    screen.wait(lambda: stack.count() == 2, "the second generation")
    request = stack.records.list(status=None, cursor=None, limit=1).generations[0].request
    assert (request.prompt, request.image, request.strength) == ("a wolf", None, None)


def _choose_mask(screen: Screen, data: bytes) -> None:
    screen.page.get_by_label("Mask", exact=True).set_input_files(_file(data))


def test_a_mask_says_which_part_is_drawn_anew(screen: Screen, stack: Stack) -> None:
    screen.open()
    expect(screen.page.get_by_label("Mask", exact=True)).to_be_hidden()
    _choose(screen, picture(400, 304))
    expect(screen.page.get_by_label("Mask", exact=True)).to_be_visible()
    _choose_mask(screen, picture(400, 304, "PNG"))
    expect(screen.page.get_by_alt_text("The mask")).to_be_visible()
    expect(screen.page.get_by_label("Strength")).to_have_attribute("placeholder", "1")

    request = _ask(screen, stack)
    assert (request["width"], request["height"], request["strength"]) == (400, 304, 1.0)
    assert stack.http.get(f"/v1/uploads/{request['mask']}").json()["width"] == 400
    screen.page.reload()
    expect(screen.page.locator("#mask-state")).to_have_text("The picture that was chosen before.")
    _choose(screen, picture(304, 304))
    expect(screen.page.locator("#mask-state")).to_contain_text("Choose one")


def test_a_mask_for_a_picture_that_is_still_on_its_way_stays(screen: Screen) -> None:
    screen.open()
    _choose(screen, picture(304, 304))
    expect(screen.page.get_by_label("Mask", exact=True)).to_be_visible()
    held: list[Route] = []
    screen.page.route("**/v1/uploads", lambda route: held.append(route), times=1)  # noqa: PLW0108
    _choose(screen, picture(400, 304))
    screen.wait(lambda: len(held) == 1, "the upload of the second picture")
    _choose_mask(screen, picture(400, 304, "PNG"))
    expect(screen.page.get_by_alt_text("The mask")).to_be_visible()

    held[0].continue_()

    expect(screen.page.locator("#image-state")).to_have_text(re.compile("^400"))
    expect(screen.page.get_by_alt_text("The mask")).to_be_visible()


def test_a_mask_of_another_size_is_told_at_its_field(screen: Screen) -> None:
    screen.open()
    _choose(screen, picture(400, 304))
    expect(screen.page.get_by_alt_text("The picture to start from")).to_be_visible()
    _choose_mask(screen, picture(304, 304))
    screen.page.get_by_label("Prompt", exact=True).fill("a fox")
    screen.page.get_by_role("button", name="Generate").click()
    expect(screen.page.locator("#mask-wrong")).to_contain_text("size")
    screen.page.get_by_role("button", name="Draw all of it anew").click()
    expect(screen.page.get_by_label("Strength")).to_have_attribute("placeholder", "0.8")


def test_what_is_no_picture_is_told_at_its_field(screen: Screen) -> None:
    screen.open()
    _choose(screen, b"hello")
    expect(screen.page.locator("#image-wrong")).to_contain_text("send one of these")
    expect(screen.page.get_by_label("Strength")).to_be_disabled()


def _held_upload(screen: Screen, data: bytes) -> Route:
    """Choose a picture, press Generate, and hold the upload on its way to the service."""
    held: list[Route] = []
    screen.page.route("**/v1/uploads", lambda route: held.append(route))  # noqa: PLW0108
    screen.open()
    _choose(screen, data)
    screen.page.get_by_label("Prompt", exact=True).fill("a fox")
    screen.page.get_by_role("button", name="Generate").click()
    expect(screen.page.locator("#waiting")).to_contain_text("Waiting for the picture")
    expect(screen.page.get_by_role("button", name="Generate")).to_be_disabled()
    screen.page.get_by_label("Prompt", exact=True).press("Control+Enter")
    screen.wait(lambda: len(held) == 1, "the upload")
    return held[0]


def test_a_request_waits_for_its_picture(screen: Screen, stack: Stack) -> None:
    upload = _held_upload(screen, picture(400, 304))
    assert stack.count() == 0
    with screen.page.expect_request("**/v1/generations") as sent:
        upload.continue_()

    generation_id = screen.shown_id()
    request = stack.http.get(f"/v1/generations/{generation_id}").json()["request"]
    assert sent.value.post_data_json["image"] == request["image"]
    assert (request["width"], request["height"]) == (400, 304)
    expect(screen.page.locator("#waiting")).to_be_empty()
    assert stack.count() == 1


def test_nothing_is_asked_for_when_its_picture_is_refused(screen: Screen, stack: Stack) -> None:
    _held_upload(screen, b"hello").continue_()
    expect(screen.page.locator("#image-wrong")).to_contain_text("send one of these")
    expect(screen.page.get_by_role("button", name="Generate")).to_be_enabled()
    expect(screen.page.locator("#waiting")).to_be_empty()
    assert stack.count() == 0
