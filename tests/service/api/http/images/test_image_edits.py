"""Edits of the OpenAI Images API, asked for by the openai package itself."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from service.domain.generations.generation import Generation
from tests.service.api.http.images.test_images import working
from tests.service.api.http.pictures.test_uploads import picture
from tests.service.api.played_worker import IMAGE, PREVIEW
from tests.service.api.stack import MAX_UPLOAD_BYTES, Stack


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    url = f"{stack.endpoints.http_url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


def with_hole(width: int = 300, height: int = 200) -> bytes:
    """A picture whose left half is transparent."""
    image = Image.open(io.BytesIO(picture(width, height))).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, width // 2, height))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def last(stack: Stack) -> Generation:
    return stack.records.list(status=None, cursor=None, limit=1).generations[0]


def stored(stack: Stack, generation: Generation, field: str) -> Image.Image:
    key = generation.inputs[getattr(generation.request, field)]
    return Image.open(io.BytesIO(stack.store.get(key)))


def test_an_edit_starts_from_its_picture(stack: Stack, client: openai.OpenAI) -> None:
    with working(stack, stack.worker.run):
        answer = client.images.edit(
            model="emoji",
            image=picture(),
            prompt="a fox in snow",
            quality="low",
            output_format="webp",
            output_compression=70,
            background="auto",
            user="somebody",
            extra_body={"negative_prompt": "blur", "seed": 7, "guidance_scale": 2.5},
        )

    assert answer.data
    assert base64.b64decode(answer.data[0].b64_json or "") == IMAGE
    assert (answer.size, answer.quality, answer.output_format) == ("304x200", "low", "webp")
    generation = last(stack)
    request = generation.request
    assert (request.seed, request.guidance_scale, request.negative_prompt) == (7, 2.5, "blur")
    assert (request.strength, request.mask, request.quality) == (0.8, None, 70)
    assert stored(stack, generation, "image").size == (300, 200)


def test_nested_fields_are_read_as_the_client_writes_them(
    stack: Stack, client: openai.OpenAI
) -> None:
    loras = [{"name": "ink", "weight": 0.5}, {"name": "oil", "weight": -1}]
    options = {"t1_ratio": 0.7, "window_grid": "native", "aggressive_ratio": None}
    nested = {"method": "hidiffusion", "method_options": options, "loras": loras}
    with working(stack, stack.worker.run):
        client.images.edit(
            image=picture(), prompt="2", extra_body={**nested, "prompt_weighting": True}
        )

    request = last(stack).request
    assert [lora.model_dump() for lora in request.loras] == loras
    assert request.method_options.items() >= options.items()
    assert request.prompt_weighting
    assert request.prompt == "2"

    for field, value in (("loras", [{"name": 7}]), ("method_options", {"t1_ratio": "much"})):
        with pytest.raises(openai.BadRequestError, match=field):
            client.images.edit(image=picture(), prompt="a fox", extra_body={field: value})


@pytest.mark.parametrize("mask_of_its_own", [True, False])
def test_what_is_transparent_is_drawn_anew(
    stack: Stack, client: openai.OpenAI, *, mask_of_its_own: bool
) -> None:
    more = {"mask": with_hole()} if mask_of_its_own else {}
    with working(stack, stack.worker.run):
        client.images.edit(
            image=[picture() if mask_of_its_own else with_hole()],
            prompt="a fox",
            size="256x256",
            **more,  # type: ignore[arg-type]
        )
    generation = last(stack)
    mask = np.asarray(stored(stack, generation, "mask"))
    assert (mask[:, :150].min(), mask[:, 150:].max()) == (255, 0)
    request = generation.request
    assert (request.strength, request.width, request.height) == (1.0, 256, 256)


@pytest.mark.parametrize(
    ("fields", "strength"),
    [
        ({"input_fidelity": "high"}, 0.5),
        ({"input_fidelity": "low"}, 0.8),
        ({"input_fidelity": "high", "extra_body": {"strength": 0.3}}, 0.3),
        ({"input_fidelity": "high", "mask": with_hole()}, 1.0),
    ],
)
def test_fidelity_is_a_strength(
    stack: Stack, client: openai.OpenAI, fields: dict[str, Any], strength: float
) -> None:
    with working(stack, stack.worker.run):
        client.images.edit(image=picture(), prompt="a fox", **fields)
    assert last(stack).request.strength == strength


async def test_the_asynchronous_client_and_several_pictures(stack: Stack) -> None:
    url = f"{stack.endpoints.http_url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        with working(stack, stack.worker.run, count=2):
            answer = await client.images.edit(
                image=("fox.jpg", picture(name="JPEG")),
                prompt="a fox",
                n=2,
                response_format="url",
                extra_body={"seed": 5},
            )
    assert answer.data
    assert [image.model_dump()["seed"] for image in answer.data] == [5, 6]
    assert [httpx.get(image.url or "").content for image in answer.data] == [IMAGE, IMAGE]


def test_a_stream_of_an_edit(stack: Stack, client: openai.OpenAI) -> None:
    def work(generation_id: str) -> None:
        generation = stack.worker.start(generation_id)
        stack.worker.preview(generation, 15)
        stack.worker.succeed(generation)

    with working(stack, work):
        events = list(
            client.images.edit(image=picture(), prompt="a fox", stream=True, partial_images=1)
        )
    first, second = events
    assert first.type == "image_edit.partial_image"
    assert base64.b64decode(first.b64_json) == PREVIEW
    assert second.type == "image_edit.completed"
    assert base64.b64decode(second.b64_json) == IMAGE


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"image": b"hello"}, "image", "begins like no picture"),
        ({"image": picture()[:-60]}, "image", "broken or incomplete"),
        ({"image": [picture(), picture()]}, "image[]", "start from one picture"),
        ({"image": [b"hello"]}, "image[]", "begins like no picture"),
        ({"mask": b"hello"}, "mask", "begins like no picture"),
        ({"mask": picture()}, "mask", "transparent where the picture is to be edited"),
        ({"mask": with_hole(100, 100)}, "mask", "the size of image, 300 x 200"),
        ({"prompt": ""}, "prompt", "at least 1 character"),
        ({"size": "300x200"}, "size", "multiples of 8"),
        ({"n": 11}, "n", "less than or equal to 10"),
        ({"background": "transparent"}, "background", "'opaque' or 'auto'"),
        ({"model": "dall-e-2"}, "model", "allowed are emoji"),
        ({"markup": picture()}, "markup", "files are taken as image, image[], mask"),
        ({"stream": True, "n": 2}, "n", "a stream shows one picture"),
        ({"extra_body": {"strength": 2}}, "strength", "less than or equal to 1"),
        ({"extra_body": {"method": "hidiffusion-refresh"}}, "method", "can start from image"),
    ],
)
def test_a_broken_rule_names_the_clients_own_field(
    client: openai.OpenAI, fields: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(**({"image": picture(), "prompt": "a fox"} | fields))
    assert (caught.value.param, caught.value.code) == (param, "invalid_request")
    assert message in caught.value.message


@pytest.mark.parametrize("field", ["prompt", "image[0]", "mask[]"])
def test_a_file_in_another_field_is_refused_by_that_name(stack: Stack, field: str) -> None:
    files = {"image": ("a.png", picture()), field: ("b.png", picture())}
    response = stack.http.post("/v1/images/edits", files=files, data={"n": "1"})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, field)
    assert "files are taken as image, image[], mask" in error["message"]


def test_what_is_no_form_and_what_is_too_long(stack: Stack) -> None:
    no_form = stack.http.post("/v1/images/edits", json={"prompt": "a fox"})
    assert (no_form.status_code, no_form.json()["error"]["param"]) == (400, "image")
    fields = {"image": (None, "x"), "prompt": (None, "a")}
    no_file = stack.http.post("/v1/images/edits", files=fields)
    assert (no_file.status_code, no_file.json()["error"]["param"]) == (400, "image")
    files = {"image": ("a.png", bytes(3 * MAX_UPLOAD_BYTES))}
    too_long = stack.http.post("/v1/images/edits", files=files)
    assert (too_long.status_code, too_long.json()["error"]["code"]) == (413, "body_too_large")
    assert stack.count() == 0


def test_fields_left_empty_count_as_left_out(stack: Stack) -> None:
    files = {"image": ("a.png", picture(), "image/png")}
    empty = {"prompt": "a fox", "n": "", "size": "", "model": "", "stream": ""}
    stack.http.post("/v1/images/edits", files=files, data=empty)
    (made,) = stack.records.list(status=None, cursor=None, limit=9).generations
    assert (made.request.prompt, made.request.model) == ("a fox", "emoji")


# The package calls variations deprecated, as OpenAI's models that make them are.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_a_variation_is_like_its_picture_and_takes_no_words(
    stack: Stack, client: openai.OpenAI
) -> None:
    with working(stack, stack.worker.run):
        answer = client.images.create_variation(
            image=picture(), n=2, response_format="b64_json", user="somebody"
        )

    assert [base64.b64decode(each.b64_json or "") for each in answer.data or []] == [IMAGE, IMAGE]
    generation = last(stack)
    assert (generation.request.strength, generation.request.prompt.strip()) == (0.7, "")
    assert (generation.request.width, generation.request.height) == (304, 200)
    assert stored(stack, generation, "image").size == (300, 200)

    with working(stack, stack.worker.run):
        extra = {"prompt": "in snow", "strength": 0.25, "seed": 7}
        client.images.create_variation(image=picture(), size="256x256", extra_body=extra)
    request = last(stack).request
    assert (request.prompt, request.strength, request.seed, request.width) == (
        *("in snow", 0.25, 7),
        256,
    )


def test_a_variation_has_no_mask(stack: Stack) -> None:
    files = {"image": ("a.png", picture()), "mask": ("b.png", with_hole())}
    response = stack.http.post("/v1/images/variations", files=files)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "mask")
