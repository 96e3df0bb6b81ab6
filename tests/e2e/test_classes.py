"""A class becomes a tiled picture, through HTTP and gRPC alike."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from httpx_sse import connect_sse
from PIL import Image
from playwright.sync_api import expect

from hidiffusion_api.v1 import (
    generation_service_pb2,
    generation_service_pb2_grpc,
)
from service.cli.embedded import Embedded, embedded_service
from service.settings import ApiSettings, Settings
from tests.browser import DRAWING_MILLISECONDS, chromium, visitor
from tests.class_models import SIDE, write_catalog
from tests.pipeline_process import pipeline_of, suspended
from tests.upscaler_models import write_upscaler

PNG = {"Content-Type": "image/png"}

#: The viewer shows more than an empty canvas.
SHOWS_NOISE = """() => {
  const viewer = window.OpenSeadragon?.getViewer(document.getElementById("viewer"));
  const canvas = viewer?.drawer?.canvas;
  if (!canvas?.width) return false;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size > 100;
}"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A running service whose models draw classes and enlarge them."""
    catalog = write_catalog(tmp_path_factory.mktemp("models"))
    upscaler = write_upscaler(catalog.parent, "larger")
    (classes,) = json.loads(catalog.read_text())["models"]
    catalog.write_text(json.dumps({"models": [classes, upscaler]}))
    settings = Settings(catalog=catalog, api=ApiSettings(http_port=0, grpc_port=0))
    with embedded_service(tmp_path_factory.mktemp("service"), settings) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def http(service: Embedded) -> Iterator[httpx.Client]:
    """A client of the running service."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


@pytest.mark.slow
def test_both_interfaces_draw_the_class(service: Embedded, http: httpx.Client) -> None:
    model = http.get("/v1/models").json()["models"][0]
    assert model["kind"] == "class-to-image"
    assert model["classes"][2] == "fox"

    asked = http.post("/v1/generations", json={"class_label": "fox", "seed": 7})
    assert asked.status_code == 202, asked.text
    path = f"/v1/generations/{asked.json()['id']}"
    with connect_sse(http, "GET", f"{path}/events") as source:
        events = [(sse.event, json.loads(sse.data)) for sse in source.iter_sse() if sse.data]
    assert [data["step"] for kind, data in events if kind == "step"] == list(range(1, 8))
    assert sum(kind == "tile" for kind, _ in events) >= 1
    assert events[-1][0] == "succeeded"
    record = http.get(path).json()
    assert (record["request"]["prompt"], record["request"]["class_label"]) == ("fox", "2")
    image = http.get(f"{path}/image", follow_redirects=True).content
    assert Image.open(io.BytesIO(image)).size == (SIDE, SIDE)

    with grpc.insecure_channel(service.grpc_address) as channel:
        stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
        created = stub.CreateGeneration(
            generation_service_pb2.CreateGenerationRequest(class_label="2", seed=7)
        ).generation
        watch = generation_service_pb2.WatchGenerationRequest(id=created.id)
        watched = [each.event.WhichOneof("event") for each in stub.WatchGeneration(watch)]
        offered = stub.ListModels(generation_service_pb2.ListModelsRequest()).models
    assert watched[-1] == "succeeded"
    assert (created.request.prompt, created.request.class_label) == ("fox", "2")
    assert (offered[0].kind, offered[0].classes[2]) == ("class-to-image", "fox")
    twin = http.get(f"/v1/generations/{created.id}/image", follow_redirects=True)
    assert twin.content == image


@pytest.mark.slow
def test_what_is_drawn_is_enlarged_as_a_second_stage(http: httpx.Client) -> None:
    asked = {"class_label": "fox", "seed": 7, "upscale": {"model": "larger", "scale": 2}}
    made = http.post("/v1/generations", json=asked, headers={"Prefer": "wait=60"})
    assert made.json()["status"] == "succeeded", made.text
    path = f"/v1/generations/{made.json()['id']}/image"
    image = Image.open(io.BytesIO(http.get(path, follow_redirects=True).content))
    assert image.size == (2 * SIDE, 2 * SIDE)


@pytest.mark.long
def test_tiles_are_on_the_page_while_the_upscaler_computes_others(
    service: Embedded, http: httpx.Client
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 480, 3), np.uint8)
    picture = io.BytesIO()
    Image.fromarray(noise).save(picture, "png")
    uploaded = http.post("/v1/uploads", content=picture.getvalue(), headers=PNG).json()["id"]
    asked = {"model": "larger", "image": uploaded, "scale": 4, "num_inference_steps": 1}
    with chromium() as browser, visitor(browser, service.url) as context:
        page = context.new_page()
        made = http.post("/v1/generations", json=asked).json()
        path = f"/v1/generations/{made['id']}"
        with connect_sse(http, "GET", f"{path}/events") as source:
            next(event for event in source.iter_sse() if event.event == "tile")
        # However slow the browser is: one evaluation is all there is, so what is seen before the
        # end was seen while it ran.
        with suspended(pipeline_of(service)):
            page.goto(f"/#/{made['id']}")
            page.wait_for_function(SHOWS_NOISE, timeout=DRAWING_MILLISECONDS)
            assert http.get(path).json()["status"] == "running"
        download = page.get_by_role("link", name="Download")
        expect(download).to_be_visible(timeout=DRAWING_MILLISECONDS)


@pytest.mark.slow
def test_the_page_says_what_it_draws_and_draws_it(service: Embedded) -> None:
    with chromium() as browser, visitor(browser, service.url) as context:
        page = context.new_page()
        page.goto("/")
        expect(page.locator("#classes")).to_have_text("One of cat, dog, fox")
        page.get_by_label("Prompt", exact=True).fill("fox")
        page.get_by_role("button", name="Generate").click()
        download = page.get_by_role("link", name="Download")
        expect(download).to_be_visible(timeout=DRAWING_MILLISECONDS)


@pytest.mark.slow
def test_clients_that_know_only_prompts_draw_it(
    service: Embedded, http: httpx.Client, tmp_path: Path
) -> None:
    answer = http.post("/v1/images/generations", json={"prompt": "fox", "model": "classes"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["b64_json"]

    target = tmp_path / "fox.png"
    command = [sys.executable, "-m", "service.cli", "generate", "fox", "--server", service.url]
    result = subprocess.run(
        [*command, "--output", str(target)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    with Image.open(target) as picture:
        assert picture.size == (SIDE, SIDE)


@pytest.mark.slow
def test_a_word_that_is_no_class_is_refused(http: httpx.Client) -> None:
    answer = http.post("/v1/generations", json={"prompt": "a red guitar"})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "prompt"
    assert "draws cat, dog, fox" in error["description"]
