"""Recent generations: deleted after asking, compared, reused."""

from playwright.sync_api import expect

from tests.service.api.painter import QUARTERS, Painter
from tests.service.api.stack import Stack
from tests.service.api.web.screen import Screen


def _finished(stack: Stack, **fields: object) -> str:
    painter = Painter(stack.worker, stack.submit(width=512, height=512, seed=7, **fields))
    painter.finish()
    return painter.generation.id


def test_deleting_asks_first_and_then_deletes_for_good(screen: Screen, stack: Stack) -> None:
    kept, doomed = _finished(stack, prompt="a fox"), _finished(stack, prompt="a cat")
    screen.open(doomed)
    expect(screen.cards).to_have_count(2)
    delete = screen.page.get_by_role("button", name="Delete: a cat")
    dialog = screen.page.get_by_role("dialog")

    delete.click()
    dialog.get_by_role("button", name="Keep").click()
    expect(delete).to_be_focused()
    assert stack.http.get(f"/v1/generations/{doomed}").status_code == 200

    delete.click()
    dialog.get_by_role("button", name="Delete").click()
    expect(screen.cards).to_have_count(1)
    expect(screen.page.get_by_role("heading", name="Your picture")).to_be_visible()
    assert stack.http.get(f"/v1/generations/{doomed}").status_code == 404
    assert stack.http.get(f"/v1/generations/{kept}").status_code == 200
    assert stack.store.keys(f"generations/{doomed}/") == []


def test_two_picked_pictures_are_compared_and_zoom_as_one(screen: Screen, stack: Stack) -> None:
    _finished(stack, prompt="a fox")
    _finished(stack, prompt="a fox", method="direct")
    dark = (36, 74, 64)  # the third quarter, as a direct picture has it
    screen.open()
    for card in (1, 0):
        screen.cards.nth(card).get_by_role("button", name="Compare").click()

    divider = screen.page.get_by_role("slider")
    expect(divider).to_be_visible()
    expect(screen.page.locator("#slider-left")).to_have_text("HiDiffusion")
    expect(screen.page.locator("#slider-right")).to_have_text("Direct")
    screen.wait_for_colour(0.25, 0.75, QUARTERS[2])
    divider.focus()
    divider.press("Home")
    screen.wait_for_colour(0.25, 0.75, dark)
    divider.press("End")
    screen.wait_for_colour(0.25, 0.75, QUARTERS[2])
    expect(divider).to_have_attribute("aria-valuetext", "100 percent HiDiffusion")

    before = screen.point(0.25, 0.75)
    screen.page.get_by_role("button", name="Zoom in").click()
    screen.wait(lambda: screen.point(0.25, 0.75) != before, "the zoom")
    screen.page.get_by_role("button", name="Show all").click()
    screen.wait(lambda: screen.point(0.25, 0.75) == before, "the way back")
    divider.press("Home")
    screen.wait_for_colour(0.25, 0.75, dark)


def test_comparing_makes_the_twin_that_is_missing(screen: Screen, stack: Stack) -> None:
    first = _finished(stack, prompt="a fox")
    screen.open(first)
    screen.page.get_by_role("button", name="Compare with Direct").click()
    screen.page.wait_for_url("**/#/compare/**")
    twin = screen.page.url.rpartition("/")[2]
    ours, theirs = (
        stack.http.get(f"/v1/generations/{each}").json()["request"] for each in (first, twin)
    )
    assert theirs == {**ours, "method": "direct", "method_options": {}}
    expect(screen.status).to_contain_text("Next in the queue")

    Painter(stack.worker, twin).finish()

    expect(screen.page.get_by_role("slider")).to_be_visible()
    screen.page.go_back()
    screen.page.get_by_role("button", name="Compare with Direct").click()
    screen.page.wait_for_url(f"**/#/compare/{first}/{twin}")
    assert stack.count() == 2


def test_settings_of_a_result_go_back_into_the_form(screen: Screen, stack: Stack) -> None:
    screen.open(_finished(stack, prompt="a fox", method="direct", num_inference_steps=9))

    screen.page.get_by_role("button", name="Use settings").click()

    prompt = screen.page.get_by_label("Prompt", exact=True)
    expect(prompt).to_have_value("a fox")
    expect(prompt).to_be_focused()
    expect(screen.page.get_by_label("Method")).to_have_value("direct")
    expect(screen.page.get_by_label("Seed", exact=True)).to_have_value("7")
    expect(screen.page.get_by_label("512", exact=True)).to_be_checked()


def test_older_results_come_when_asked_for(screen: Screen, stack: Stack) -> None:
    for number in range(26):
        generation_id = stack.submit(prompt=f"number {number}")
        stack.http.delete(f"/v1/generations/{generation_id}")
    screen.open()
    expect(screen.cards).to_have_count(24)

    screen.page.get_by_role("button", name="Show older").click()

    expect(screen.cards).to_have_count(26)
    expect(screen.cards.last).to_contain_text("number 0")
    expect(screen.page.get_by_role("button", name="Show older")).to_be_hidden()


def test_options_of_a_method_are_asked_for_and_come_back(screen: Screen, stack: Stack) -> None:
    page = screen.page
    screen.open()
    page.get_by_label("Method").select_option("hidiffusion")
    page.get_by_text("Options of the method").click()
    page.get_by_label("RAU-Net, first mechanism").fill("1.5")
    page.get_by_label("Windows along a side").fill("native")
    page.get_by_label("Prompt", exact=True).fill("a fox")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_label("RAU-Net, first mechanism")).to_have_attribute("aria-invalid", "true")
    assert stack.count() == 0

    page.get_by_label("RAU-Net, first mechanism").fill("0.7")
    painter = Painter(stack.worker, screen.ask("a fox", "512"))
    options = painter.generation.request.method_options
    assert (options["t1_ratio"], options["window_grid"], options["t2_ratio"]) == (
        0.7,
        "native",
        None,
    )

    painter.finish()
    page.get_by_label("Method").select_option("direct")
    expect(page.get_by_text("Options of the method")).to_be_hidden()
    page.get_by_role("button", name="Use settings").click()
    expect(page.get_by_label("RAU-Net, first mechanism")).to_have_value("0.7")
    expect(page.get_by_label("Windows along a side")).to_have_value("native")
    expect(page.get_by_label("RAU-Net, second mechanism")).to_have_value("")


def test_words_and_loras_are_asked_for_and_come_back(screen: Screen, stack: Stack) -> None:
    page = screen.page
    screen.open()
    page.get_by_text("Words and LoRAs").click()
    expect(page.get_by_text("Words of the model's own: <w>")).to_be_visible()
    page.get_by_label("Weigh words").check()
    page.get_by_label("Ink, weight").fill("9")
    page.get_by_label("Prompt", exact=True).fill("a fox")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_label("Ink, weight")).to_have_attribute("aria-invalid", "true")
    assert stack.count() == 0

    page.get_by_label("Ink, weight").fill("0.5")
    painter = Painter(stack.worker, screen.ask("a (red)1.3 fox", "512"))
    request = painter.generation.request
    assert request.prompt_weighting
    assert [(lora.name, lora.weight) for lora in request.loras] == [("ink", 0.5)]

    painter.finish()
    page.get_by_label("Ink, weight").fill("")
    page.get_by_label("Weigh words").uncheck()
    page.get_by_role("button", name="Use settings").click()
    expect(page.get_by_label("Ink, weight")).to_have_value("0.5")
    expect(page.get_by_label("Oil, weight")).to_have_value("")
    expect(page.get_by_label("Weigh words")).to_be_checked()


def test_compared_pictures_are_named_by_what_tells_them_apart(screen: Screen, stack: Stack) -> None:
    first = _finished(stack, prompt="a fox")
    for fields, names in (
        ({"num_inference_steps": 9}, ("25 steps", "9 steps")),
        ({"method_options": {"t1_ratio": 0.5}}, ("automatic", "0.5")),
        ({}, ("Made earlier", "Made later")),
    ):
        screen.open(f"compare/{first}/{_finished(stack, prompt='a fox', **fields)}")
        expect(screen.page.get_by_role("slider")).to_be_visible()
        expect(screen.page.locator("#slider-left")).to_contain_text(names[0])
        expect(screen.page.locator("#slider-right")).to_contain_text(names[1])
