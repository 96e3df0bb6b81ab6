"""The OpenAI Images API, spoken to by the openai package itself."""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import openai
import pytest

from service.domain.generations.generation import Generation, Status
from tests.service.api.played_worker import IMAGE, PREVIEW
from tests.service.api.stack import IMAGE_WAIT_SECONDS, Stack


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    url = f"{stack.endpoints.http_url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=2) as made:
        yield made


@contextmanager
def working(stack: Stack, work: Callable[[str], object], count: int = 1) -> Iterator[list[str]]:
    """A worker that takes the next `count` generations; yields the ids it has taken."""
    taken: list[str] = []
    stop = threading.Event()

    def loop() -> None:
        while len(taken) < count and not stop.wait(0.01):
            page = stack.records.list(status=Status.QUEUED, cursor=None, limit=100)
            for generation in reversed(page.generations):
                taken.append(generation.id)
                work(generation.id)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield taken
    finally:
        stop.set()
        thread.join(20)


def _eventually(stack: Stack, status: Status) -> Generation:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = stack.records.list(status=status, cursor=None, limit=10).generations
        if found:
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"no generation became {status}")


def test_a_picture_in_the_answer(stack: Stack, client: openai.OpenAI) -> None:
    with working(stack, stack.worker.run):
        answer = client.images.generate(
            model="emoji",
            prompt="a red guitar",
            size="4096x4096",
            quality="high",
            output_format="webp",
            output_compression=70,
            background="opaque",
            user="somebody",
            extra_body={"negative_prompt": "blur", "seed": 7},
        )

    assert answer.data
    assert base64.b64decode(answer.data[0].b64_json or "") == IMAGE
    assert (answer.size, answer.quality, answer.output_format) == ("4096x4096", "high", "webp")
    assert answer.background == "opaque"
    assert answer.usage
    assert answer.usage.total_tokens == 0
    request = stack.records.list(status=None, cursor=None, limit=1).generations[0].request
    assert (request.width, request.height, request.quality) == (4096, 4096, 70)
    assert (request.negative_prompt, request.seed) == ("blur", 7)
    assert request.num_inference_steps == 38  # half as much again as the model's 25


def test_several_pictures_differ_in_their_seeds(stack: Stack, client: openai.OpenAI) -> None:
    with working(stack, stack.worker.run, count=3):
        answer = client.images.generate(
            prompt="a fox", n=3, response_format="url", extra_body={"seed": 2**53 - 2}
        )

    assert answer.data
    seeds = [image.model_dump()["seed"] for image in answer.data]
    assert seeds == [2**53 - 2, 2**53 - 1, 0]
    for image in answer.data:
        assert image.url
        assert image.url.startswith(stack.endpoints.http_url)
        assert httpx.get(image.url).content == IMAGE


async def test_the_asynchronous_client(stack: Stack) -> None:
    url = f"{stack.endpoints.http_url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        with working(stack, stack.worker.run, count=2):
            answer = await client.images.generate(prompt="a fox", n=2)

    assert answer.data
    assert [base64.b64decode(image.b64_json or "") for image in answer.data] == [IMAGE, IMAGE]


def test_a_stream_shows_previews_then_the_picture(stack: Stack, client: openai.OpenAI) -> None:
    def work(generation_id: str) -> None:
        generation = stack.worker.start(generation_id)
        for step in range(1, 26):
            stack.worker.step(generation, step, 25)
            if step % 5 == 0:
                stack.worker.preview(generation, step)
        stack.worker.succeed(generation)

    with working(stack, work):
        stream = client.images.generate(
            prompt="a fox", size="512x512", stream=True, partial_images=2
        )
        events = list(stream)

    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    for index, event in enumerate(events[:2]):
        assert event.type == "image_generation.partial_image"
        assert event.partial_image_index == index
        assert base64.b64decode(event.b64_json) == PREVIEW
    last = events[-1]
    assert last.type == "image_generation.completed"
    assert base64.b64decode(last.b64_json) == IMAGE
    assert (last.size, last.output_format, last.usage.total_tokens) == ("512x512", "png", 0)


async def test_the_asynchronous_client_streams(stack: Stack) -> None:
    url = f"{stack.endpoints.http_url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        with working(stack, stack.worker.run):
            stream = await client.images.generate(prompt="a fox", stream=True)
            kinds = [event.type async for event in stream]

    assert kinds == ["image_generation.completed"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "1001x512"}, "size"),
        ({"size": "huge"}, "size"),
        ({"model": "dall-e-3"}, "model"),
        ({"background": "transparent"}, "background"),
        ({"output_compression": 50}, "output_compression"),
        ({"n": 11}, "n"),
        ({"n": 2, "stream": True}, "n"),
        ({"partial_images": 4}, "partial_images"),
        ({"extra_body": {"colour": "red"}}, "colour"),
    ],
)
def test_a_broken_rule_names_the_clients_own_field(
    stack: Stack, client: openai.OpenAI, fields: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.generate(prompt="a fox", **fields)  # type: ignore[call-overload]

    error = raised.value
    assert (error.type, error.param, error.code) == (
        "invalid_request_error",
        param,
        "invalid_request",
    )
    assert error.request_id
    assert stack.count() == 0


def test_a_failure_that_would_repeat_is_tried_once(stack: Stack, client: openai.OpenAI) -> None:
    def work(generation_id: str) -> None:
        stack.worker.fail(stack.worker.start(generation_id))

    with working(stack, work), pytest.raises(openai.InternalServerError) as raised:
        client.images.generate(prompt="a fox")

    assert raised.value.code == "out_of_memory"
    assert raised.value.type == "server_error"
    assert stack.count() == 1


def test_a_blocked_picture_is_the_callers_error_and_tried_once(
    stack: Stack, client: openai.OpenAI
) -> None:
    def work(generation_id: str) -> None:
        stack.worker.fail(stack.worker.start(generation_id), "CONTENT_FILTERED")

    with working(stack, work), pytest.raises(openai.BadRequestError) as raised:
        client.images.generate(prompt="a fox")

    assert raised.value.code == "moderation_blocked"
    assert raised.value.type == "image_generation_user_error"
    assert stack.count() == 1


def test_a_failure_in_a_stream_is_raised(stack: Stack, client: openai.OpenAI) -> None:
    def work(generation_id: str) -> None:
        stack.worker.fail(stack.worker.start(generation_id))

    with working(stack, work), pytest.raises(openai.APIError, match="too large"):
        list(client.images.generate(prompt="a fox", stream=True))

    assert stack.count() == 1


@pytest.mark.parametrize("stream", [False, True])
def test_what_takes_too_long_is_given_up(stack: Stack, client: openai.OpenAI, stream: bool) -> None:
    began = time.monotonic()

    with pytest.raises(openai.APIError, match="was not ready"):
        list(client.images.generate(prompt="a fox", stream=stream))  # type: ignore[call-overload]

    assert time.monotonic() - began > IMAGE_WAIT_SECONDS
    assert [
        each.status for each in stack.records.list(status=None, cursor=None, limit=9).generations
    ] == [Status.CANCELLED]


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_cancels(stack: Stack, stream: bool) -> None:
    _leave(stack, {"prompt": "a fox", "n": 1, "stream": stream}, {})

    assert _eventually(stack, Status.CANCELLED).request.prompt == "a fox"


def test_with_a_key_the_work_goes_on_and_is_found_again(stack: Stack) -> None:
    body, headers = {"prompt": "a fox", "n": 2}, {"idempotency-key": "fox-1"}
    _leave(stack, body, headers)

    with working(stack, stack.worker.run, count=2) as taken:
        answer = stack.http.post("/v1/images/generations", json=body, headers=headers)

    assert answer.status_code == 200
    assert [image["generation_id"] for image in answer.json()["data"]] == taken
    assert stack.count() == 2


def _leave(stack: Stack, body: dict[str, object], headers: dict[str, str]) -> None:
    """Ask, and hang up at the first sign of life, or after a moment without one."""
    timeout = httpx.Timeout(5, read=0.4)
    with (
        suppress(httpx.ReadTimeout),
        httpx.Client(base_url=stack.endpoints.http_url, timeout=timeout) as impatient,
        impatient.stream("POST", "/v1/images/generations", json=body, headers=headers) as response,
    ):
        next(response.iter_raw())


def test_somebody_else_cancels(stack: Stack, client: openai.OpenAI) -> None:
    with (
        working(stack, lambda generation_id: stack.http.delete(f"/v1/generations/{generation_id}")),
        pytest.raises(openai.ConflictError) as raised,
    ):
        client.images.generate(prompt="a fox")

    assert raised.value.code == "generation_cancelled"
    assert stack.count() == 1


def test_the_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert [(model.id, model.object) for model in client.models.list()] == [("emoji", "model")]
    assert client.models.retrieve("emoji").id == "emoji"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none")
