"""A1111's API, asked by the `webuiapi` package, which editors' plug-ins and scripts use."""

import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from webuiapi import WebUIApi

from service.domain.generations.generation import Generation
from service.settings import ApiSettings, StoreSettings
from service.storage.metadata import with_text
from tests.service.api.http.images.test_images import working
from tests.service.api.painter import Painter
from tests.service.api.stack import (
    CATALOG_THAT_ENLARGES,
    Stack,
    running_stack,
    serving,
    use_cases,
)


@pytest.fixture
def client(stack: Stack) -> Iterator[WebUIApi]:
    url = urlsplit(stack.endpoints.http_url)
    made = WebUIApi(host=url.hostname, port=url.port, sampler="Euler", steps=4)
    yield made
    made.session.close()


def _paint(stack: Stack, generation_id: str) -> None:
    Painter(stack.worker, generation_id).finish()


def _last(stack: Stack) -> Generation:
    return stack.records.list(status=None, cursor=None, limit=1).generations[0]


def test_a_picture_is_made_as_a1111_would_be_asked_for_it(stack: Stack, client: WebUIApi) -> None:
    with working(stack, partial(_paint, stack)):
        answer = client.txt2img(
            prompt="a (red:1.3) fox <lora:ink:0.5>",
            negative_prompt="blur",
            seed=7,
            width=256,
            height=192,
            cfg_scale=4.5,
            scheduler="karras",
            sampler_name="Euler",
        )

    request = _last(stack).request
    assert answer.image.size == (256, 192)
    assert (request.prompt, request.negative_prompt) == ("a (red)1.3 fox", "blur")
    assert (request.seed, request.guidance_scale, request.num_inference_steps) == (7, 4.5, 4)
    assert request.scheduler == "EulerDiscreteScheduler+karras"
    assert [lora.name for lora in request.loras] == ["ink"]
    assert (answer.info["seed"], answer.info["sampler_name"]) == (7, "Euler Karras")
    assert "Steps: 4, Sampler: Euler Karras" in answer.info["infotexts"][0]


def test_hires_fix_is_one_picture_at_the_enlarged_size(stack: Stack, client: WebUIApi) -> None:
    with working(stack, partial(_paint, stack)):
        answer = client.txt2img(prompt="a fox", enable_hr=True, hr_scale=2, width=256, height=256)

    assert answer.image.size == (512, 512)
    assert _last(stack).request.method == "hidiffusion"


def test_a_picture_starts_from_another(stack: Stack, client: WebUIApi) -> None:
    mask = Image.new("L", (256, 256), 255)
    mask.paste(0, (0, 0, 128, 256))
    with working(stack, partial(_paint, stack)):
        client.img2img(
            images=[Image.new("RGB", (256, 256), "red")],
            mask_image=mask,
            prompt="a fox",
            denoising_strength=0.5,
            width=256,
            height=256,
        )

    request = _last(stack).request
    assert request.strength == 0.5
    assert request.image is not None
    assert request.mask is not None


def test_models_samplers_and_the_rest_are_listed(client: WebUIApi) -> None:
    assert client.util_get_model_names() == ["emoji"]
    assert [each["name"] for each in client.get_samplers()] == ["DDIM", "Euler"]
    schedules = client.session.get(f"{client.baseurl}/schedulers").json()
    assert [each["name"] for each in schedules] == ["automatic", "karras", "exponential"]
    assert [each["name"] for each in client.get_loras()] == ["ink", "oil"]
    assert client.get_options()["sd_model_checkpoint"] == "emoji"
    client.util_set_model("emoji")
    assert client.util_get_current_model() == "emoji"
    refused = client.session.post(f"{client.baseurl}/options", json={"sd_model_checkpoint": "x"})
    assert refused.status_code == 422


def test_progress_is_told_and_interrupt_stops_it(stack: Stack, client: WebUIApi) -> None:
    assert client.get_progress()["progress"] == 0
    generation_id = stack.submit(client_metadata={"client": "sdapi"})
    other = stack.submit()
    running = stack.worker.start(generation_id)
    stack.worker.step(running, 1, total=4)

    told = client.get_progress()
    client.interrupt()

    assert told["progress"] == 0.25
    assert told["state"]["sampling_steps"] == 4
    assert stack.records.get(generation_id).cancel_requested
    assert not stack.records.get(other).cancel_requested


def test_what_a_picture_says_of_itself_is_read(client: WebUIApi) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    picture = with_text(stream.getvalue(), {"parameters": "a fox\nSteps: 4, Seed: 7"})

    answer = client.png_info(Image.open(io.BytesIO(picture)))

    assert answer.info == "a fox\nSteps: 4, Seed: 7"


def test_what_cannot_be_done_is_refused_by_name(client: WebUIApi) -> None:
    with pytest.raises(RuntimeError) as caught:
        client.txt2img(prompt="a fox", restore_faces=True, tiling=True)

    status, text = caught.value.args
    assert status == 422
    assert {each["field"] for each in json.loads(text)["errors"]} == {"restore_faces", "tiling"}


def test_it_is_off_by_a_setting(stack: Stack, client: WebUIApi) -> None:
    cases, _ = use_cases("redis://127.0.0.1:1", stack.store)
    off = ApiSettings(http_port=0, grpc_port=0, a1111_api=False)
    with serving(off, cases, None) as endpoints:
        answer = client.session.get(f"{endpoints.http_url}/sdapi/v1/samplers")

    assert answer.status_code == 404


def test_a_picture_is_enlarged_by_an_upscaler(redis_url: str, tmp_path: Path) -> None:
    store = StoreSettings(url=tmp_path.as_uri())
    with running_stack(redis_url, store, catalog=CATALOG_THAT_ENLARGES) as stack:
        url = urlsplit(stack.endpoints.http_url)
        client = WebUIApi(host=url.hostname, port=url.port)
        small = Image.new("RGB", (256, 192), "red")
        with working(stack, partial(_paint, stack)):
            answer = client.extra_single_image(small, upscaling_resize=4, upscaler_1="larger")
        request = _last(stack).request
        listed = [each["name"] for each in client.get_upscalers()]
        with pytest.raises(RuntimeError, match="the upscaler enlarges by 2, 4"):
            client.extra_single_image(small, upscaling_resize=3)
        with pytest.raises(RuntimeError, match="upscalers here are larger"):
            client.extra_single_image(small, upscaler_1="R-ESRGAN 4x+")
        client.session.close()

    assert answer.image.size == (1024, 768)
    assert (request.model, request.scale) == ("larger", 4)
    assert listed == ["None", "larger"]


def test_nothing_is_enlarged_where_no_upscaler_is(client: WebUIApi) -> None:
    with pytest.raises(RuntimeError, match="there is no upscaler here") as caught:
        client.extra_single_image(Image.new("RGB", (64, 64)), gfpgan_visibility=0.5)
    assert "gfpgan_visibility" in caught.value.args[1]
