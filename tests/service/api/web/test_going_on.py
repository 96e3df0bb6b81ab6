"""Going on from a result: start from it, paint a mask on it, read its recipe, find it again."""

import io

from PIL import Image, PngImagePlugin
from playwright.sync_api import FilePayload, expect

from tests.service.api.painter import Painter
from tests.service.api.stack import Stack
from tests.service.api.web.screen import DIALOG, Screen


def _finished(stack: Stack, **fields: object) -> str:
    asked = {"width": 512, "height": 384} | fields
    painter = Painter(stack.worker, stack.submit(**asked))
    painter.finish()
    return painter.generation.id


def _last_request(stack: Stack) -> dict[str, object]:
    (record,) = stack.http.get("/v1/generations", params={"limit": 1}).json()["generations"]
    request: dict[str, object] = record["request"]
    return request


def test_a_mask_is_painted_on_a_result_that_one_starts_from(screen: Screen, stack: Stack) -> None:
    page = screen.page
    first = _finished(stack, prompt="a fox")
    screen.open(first)
    page.get_by_role("button", name="Start from this").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a fox")
    expect(page.locator("#dimensions")).to_have_text("512 \u00d7 384")
    expect(page.get_by_alt_text("The picture to start from")).to_be_visible()

    page.get_by_role("button", name="Paint the mask").click()
    dialog = page.get_by_role("dialog", name="Paint what is drawn anew")
    expect(dialog.get_by_role("button", name="Use as mask")).to_be_disabled()
    assert screen.flaws(DIALOG) == []
    canvas = page.locator("#paint-canvas")
    expect(canvas).to_be_focused()
    page.keyboard.press(" ")  # in the middle
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.1, steps=3)
    page.mouse.up()
    dialog.get_by_role("button", name="Undo").click()
    dialog.get_by_role("button", name="Use as mask").click()
    expect(page.get_by_alt_text("The mask")).to_be_visible()
    generation_id = screen.shown_id()
    page.get_by_role("button", name="Generate").click()
    page.wait_for_url(lambda url: generation_id not in url)

    request = _last_request(stack)
    stored = stack.http.get(f"/v1/uploads/{request['mask']}/image").content
    mask = Image.open(io.BytesIO(stored)).convert("L")
    assert mask.size == (512, 384)
    assert [mask.getpixel(at) for at in ((256, 192), (256, 38), (5, 5))] == [255, 0, 0]
    made = stack.http.get(f"/v1/generations/{first}/image").content
    assert request["image"] == stack.http.post("/v1/uploads", content=made).json()["id"]


def test_a_card_of_the_gallery_is_started_from(screen: Screen, stack: Stack) -> None:
    _finished(stack, prompt="a fox")
    screen.open()
    screen.page.get_by_label("Prompt", exact=True).fill("a wolf")
    screen.page.get_by_role("button", name="Start from: a fox").click()
    expect(screen.page.get_by_label("Strength")).to_be_enabled()
    screen.page.get_by_role("button", name="Generate").click()
    screen.shown_id()
    request = _last_request(stack)
    assert (request["prompt"], request["width"], request["strength"]) == ("a wolf", 512, 0.8)


def _png(text: str) -> FilePayload:
    stream, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(stream, "PNG", pnginfo=info)
    return {"name": "fox.png", "mimeType": "image/png", "buffer": stream.getvalue()}


_DROP = """(bytes) => {
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(bytes)], "fox.png", { type: "image/png" }));
  const drop = new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
  document.getElementById("stage").dispatchEvent(drop);
}"""


def test_a_recipe_is_read_from_a_png_chosen_or_dropped(screen: Screen, stack: Stack) -> None:
    page = screen.page
    written = "a fox\nNegative prompt: grass\nSteps: 9, Sampler: Euler, Schedule type: Karras, "
    screen.open()
    field = page.get_by_label("Read a recipe")
    field.set_input_files(_png(written + "CFG scale: 3, Seed: 11, Size: 512x256"))
    expect(page.get_by_text("The recipe of fox.png is in the form.")).to_be_visible()
    page.get_by_role("button", name="Generate").click()
    screen.shown_id()
    request = _last_request(stack)
    assert [request[name] for name in ("prompt", "negative_prompt", "seed", "width", "height")] == [
        *("a fox", "grass", 11, 512, 256)
    ]
    assert request["scheduler"] == "EulerDiscreteScheduler+karras"

    page.evaluate(_DROP, list(_png("a wolf\nSteps: 4, Seed: 12")["buffer"]))
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a wolf")
    page.evaluate(_DROP, list(b"no picture"))
    expect(page.locator("#recipe-file-wrong")).to_be_visible()
    assert stack.count() == 1


def test_the_gallery_is_searched_to_its_end(screen: Screen, stack: Stack) -> None:
    oldest = stack.submit(prompt="a red guitar on a stage", seed=77)
    for number in range(25):
        stack.submit(prompt=f"fox {number}")
    screen.open()
    expect(screen.cards).to_have_count(24)
    search = screen.page.get_by_label("Search")

    search.fill("guitar RED")
    shown = screen.page.locator(".card:not([hidden])")
    expect(shown).to_have_count(1)
    expect(shown.get_by_role("link")).to_have_attribute("href", f"#/{oldest}")
    search.fill("seed 77")
    expect(shown).to_have_count(1)
    search.fill("zebra")
    expect(screen.page.get_by_text("Nothing has all of these words.")).to_be_visible()
    search.fill("")
    expect(shown).to_have_count(26)
