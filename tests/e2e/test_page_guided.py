"""The page with a tiny model: a map and a picture chosen in a browser guide a real worker."""

import io
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect

from service.cli.embedded import Embedded, embedded_service
from service.settings import ApiSettings, Settings, WorkerSettings
from tests.browser import DRAWING_MILLISECONDS, chromium, visitor
from tests.service.worker.adapter_models import write_catalog
from tests.service.worker.control_models import SIDE, photo


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for these tests."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """The whole service over models with ControlNets and an IP-Adapter."""
    folder = write_catalog(tmp_path_factory.mktemp("guided"))
    settings = Settings(
        catalog=folder / "catalog.json",
        api=ApiSettings(http_port=0, grpc_port=0),
        worker=WorkerSettings(device="cpu"),
    )
    with embedded_service(folder / "data", settings) as running:
        running.wait_until_ready()
        yield running


def _file(turns: int) -> FilePayload:
    stream = io.BytesIO()
    photo(turns).save(stream, "PNG")
    return {"name": "photo.png", "mimeType": "image/png", "buffer": stream.getvalue()}


def _pixels(http: httpx.Client, generation_id: str) -> bytes:
    path = f"/v1/generations/{generation_id}/image"
    response = http.get(path, follow_redirects=True).raise_for_status()
    return Image.open(io.BytesIO(response.content)).tobytes()


@pytest.mark.slow
def test_a_map_and_a_picture_guide_what_is_drawn(browser: Browser, guided: Embedded) -> None:
    with visitor(browser, guided.url) as context:
        _guide(context.new_page(), guided)


def _guide(page: Page, guided: Embedded) -> None:
    page.goto("/")
    page.get_by_text("Guide it by pictures").click()
    for name, label, turns in (
        ("canny", "Map", 1),
        ("A picture beside the words", "What to draw", 2),
    ):
        fields = page.get_by_role("group", name=name, exact=True)
        fields.get_by_label(label, exact=True).set_input_files(_file(turns))
        fields.get_by_label("Scale").fill("0.5")
    page.get_by_label("Prompt", exact=True).fill("a fox")
    page.get_by_text("More settings").click()
    page.get_by_label("Steps").fill("2")
    page.get_by_label("Seed", exact=True).fill("7")
    with page.expect_request("**/v1/generations") as sent:
        page.get_by_role("button", name="Generate").click()
    download = page.get_by_role("link", name="Download")
    expect(download).to_be_visible(timeout=DRAWING_MILLISECONDS)

    body = sent.value.post_data_json
    assert [(each["name"], each["scale"]) for each in body["controls"]] == [("canny", 0.5)]
    assert body["image_prompt"]["scale"] == 0.5
    assert (body["width"], body["height"]) == (SIDE, SIDE)
    with httpx.Client(base_url=guided.url, timeout=60) as http:
        record = http.get(f"/v1/generations/{page.url.rpartition('/')[2]}").json()
        assert record["status"] == "succeeded"
        plain = {key: body[key] for key in body if key not in {"controls", "image_prompt"}}
        unguided = http.post("/v1/generations", json=plain, headers={"Prefer": "wait=60"}).json()
        assert unguided["status"] == "succeeded"
        pictures = [_pixels(http, each["id"]) for each in (record, unguided)]
    assert pictures[0] != pictures[1]
