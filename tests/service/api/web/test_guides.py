"""Maps for ControlNets, and a picture as a prompt, on the page."""

import re
from typing import Any

from playwright.sync_api import FilePayload, Locator, Page, Route, expect

from service.domain.artifacts import MEDIA_TYPES
from tests.service.api.http.pictures.test_uploads import picture
from tests.service.api.painter import Painter
from tests.service.api.stack import Stack
from tests.service.api.web.screen import Screen

PROMPT = "A picture beside the words"
AGAIN = "The picture that was chosen before."


def group(page: Page, name: str) -> Locator:
    """The fields of one ControlNet, or of the picture as a prompt."""
    return page.get_by_role("group", name=name, exact=True)


def choose(page: Page, name: str, data: bytes, label: str = "Map") -> None:
    """Choose a picture in a group."""
    file: FilePayload = {"name": "map.png", "mimeType": MEDIA_TYPES["png"], "buffer": data}
    group(page, name).get_by_label(label, exact=True).set_input_files(file)


def _open(screen: Screen) -> Page:
    screen.open()
    screen.page.get_by_text("Guide it by pictures").click()
    return screen.page


def test_a_map_and_a_picture_as_a_prompt_are_asked_for_and_come_back(
    screen: Screen, stack: Stack
) -> None:
    page = _open(screen)
    choose(page, "Depth", picture(400, 304))
    expect(group(page, "Depth").get_by_text(re.compile("^400.+304"))).to_be_visible()
    expect(group(page, "Depth").get_by_alt_text("Depth: Map")).to_be_visible()
    expect(page.locator("#dimensions")).to_have_text(re.compile("^400.+304"))
    group(page, "Depth").get_by_label("Scale").fill("0.5")
    group(page, "Depth").get_by_label("End").fill("0.75")
    choose(page, PROMPT, picture(64, 64), "What to draw")
    group(page, PROMPT).get_by_label("Scale").fill("0.25")
    expect(page.locator("#dimensions")).to_have_text(re.compile("^400.+304"))
    page.get_by_label("Prompt", exact=True).fill("a fox")
    with page.expect_request("**/v1/generations") as sent:
        page.get_by_role("button", name="Generate").click()

    body = sent.value.post_data_json
    (depth,) = body["controls"]
    assert {key: depth[key] for key in depth if key != "image"} == {
        "name": "depth",
        "scale": 0.5,
        "end": 0.75,
    }
    assert body["image_prompt"]["scale"] == 0.25
    sizes = [
        stack.http.get(f"/v1/uploads/{each['image']}").json()["width"]
        for each in (depth, body["image_prompt"])
    ]
    assert sizes == [400, 64]

    painter = Painter(stack.worker, screen.shown_id())
    painter.finish()
    expect(page.locator("#recipe")).to_contain_text("depth 0.5")
    group(page, "Depth").get_by_role("button", name="Remove: Depth").click()
    expect(group(page, "Depth").get_by_label("Scale")).to_be_hidden()
    page.reload()
    expect(group(page, PROMPT).get_by_text(AGAIN)).to_be_visible()
    expect(group(page, "Depth").get_by_text(AGAIN)).to_be_hidden()
    page.get_by_role("button", name="Use settings").click()
    expect(group(page, "Depth").get_by_label("End")).to_have_value("0.75")
    expect(group(page, "Depth").get_by_label("Start")).to_have_value("")
    page.get_by_role("button", name="Generate").click()
    screen.wait(lambda: stack.count() == 2, "the second generation")
    twin = stack.records.list(status=None, cursor=None, limit=1).generations[0]
    assert twin.request.controls == painter.generation.request.controls
    assert twin.request.image_prompt == painter.generation.request.image_prompt


def test_what_is_wrong_is_told_at_its_field(screen: Screen, stack: Stack) -> None:
    page = _open(screen)
    edges = group(page, "Edges")
    choose(page, "Edges", b"hello")
    expect(edges.get_by_text("send one of these")).to_be_visible()
    expect(edges.get_by_label("Map", exact=True)).to_be_focused()

    choose(page, "Edges", picture(64, 64))
    expect(edges.get_by_text("send one of these")).to_be_hidden()
    edges.get_by_label("Start").fill("0.5")
    edges.get_by_label("End").fill("0.25")
    page.get_by_label("Prompt", exact=True).fill("a fox")
    page.get_by_role("button", name="Generate").click()
    expect(edges.get_by_label("End")).to_have_attribute("aria-invalid", "true")
    expect(edges.get_by_text("it must be more than start, 0.5")).to_be_visible()
    hints = edges.get_by_label("End").get_attribute("aria-describedby")
    assert hints is not None
    assert "guides-hint" in hints.split()
    assert stack.count() == 0


def test_only_what_the_model_has_is_offered(screen: Screen) -> None:
    offered: dict[str, Any] = {"controls": [], "image_prompt": False}

    def change(route: Route) -> None:
        models = route.fetch().json()
        models["models"][0] |= offered
        route.fulfill(json=models)

    screen.page.route("**/v1/models", change)
    screen.open()
    expect(screen.page.get_by_text("Words and LoRAs")).to_be_visible()
    expect(screen.page.get_by_text("Guide it by pictures")).to_be_hidden()

    offered["image_prompt"] = True
    page = _open(screen)
    expect(group(page, PROMPT)).to_be_visible()
    expect(group(page, "Edges")).to_have_count(0)
    expect(page.locator("#guides-hint")).to_be_hidden()
    page.unroute_all(behavior="wait")
