"""Both clients against real front ends: what they send, read and hand out."""

import base64
import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.api.http.errors.problems import PROBLEM_TYPES
from service.api.http.views import schemas
from service.client import (
    AsyncClient,
    Client,
    Event,
    GenerationCancelledError,
    GenerationFailedError,
    GenerationRequest,
    IdempotencyError,
    InvalidRequestError,
    NotFoundError,
    NotReadyError,
    Status,
    StepEvent,
    WaitTimeoutError,
    models,
)
from service.client.errors import ApiError, error_of
from service.client.messages import Reply
from service.domain.requests.request_examples import EXAMPLE_PICTURE
from tests.service.api.played_worker import IMAGE
from tests.service.api.stack import Stack

WHOLE_RUN = ["queued", "started", "step", "step", "step", "preview", "tile", "tile", "succeeded"]
UNKNOWN = "01K9RZ5T3W8Y7V6X2QJ4N1M0BD"


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.endpoints.http_url) as client:
        yield client


@contextmanager
def run_when_accepted(stack: Stack) -> Iterator[None]:
    """Play the worker for the one generation that the block creates."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.02):
            if waiting := stack.records.list(status=Status.QUEUED, cursor=None, limit=1):
                for generation in waiting.generations:
                    stack.worker.run(generation.id)
                    return

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()


def test_a_picture_from_prompt_to_file(stack: Stack, client: Client, tmp_path: Path) -> None:
    seen: list[Event] = []
    with run_when_accepted(stack):
        generation = client.generate({"prompt": "a fox"}, on_event=seen.append, timeout=20)
    assert [event.type for event in seen] == WHOLE_RUN
    assert [(e.step, e.total) for e in seen if isinstance(e, StepEvent)] == [(1, 3), (2, 3), (3, 3)]
    assert generation.status is Status.SUCCEEDED
    assert generation.request.prompt == "a fox"
    assert generation.result is not None
    assert generation.result.image.sha256 == hashlib.sha256(IMAGE).hexdigest()
    target = client.download(generation.id, tmp_path / "new" / "fox.png")
    assert target.read_bytes() == IMAGE
    assert [path.name for path in target.parent.iterdir()] == ["fox.png"]


async def test_a_picture_from_prompt_to_file_on_an_event_loop(stack: Stack, tmp_path: Path) -> None:
    seen: list[str] = []

    async def on_event(event: Event) -> None:
        seen.append(event.type)

    async with AsyncClient(stack.endpoints.http_url) as client:
        with run_when_accepted(stack):
            generation = await client.generate({"prompt": "a fox"}, on_event=on_event, timeout=20)
        assert seen == WHOLE_RUN
        target = await client.download(generation.id, tmp_path / "fox.png")
        assert target.read_bytes() == IMAGE
        tiles = [tile.data async for tile in client.tiles(generation.id)]
        assert tiles == [b"tile zero", b"tile one"]
        assert [each.id async for each in client.list()] == [generation.id]
        assert (await client.get(generation.id)).id == generation.id
        assert [model.name for model in await client.models()] == ["emoji"]
        await client.delete(generation.id)
        with pytest.raises(NotFoundError):
            await client.get(generation.id)


def test_tiles_come_while_the_worker_still_draws(stack: Stack, client: Client) -> None:
    generation = stack.worker.start(client.create({"prompt": "a fox"}).id)
    stack.worker.tile(generation, 0, b"first", done=1)
    tiles = client.tiles(generation.id)
    first = next(tiles)
    assert (first.data, first.level, first.column, first.done, first.total) == (
        b"first",
        9,
        0,
        1,
        2,
    )
    assert client.get(generation.id).status is Status.RUNNING
    stack.worker.tile(generation, 1, b"second", done=2)
    stack.worker.succeed(generation)
    assert [tile.data for tile in tiles] == [b"second"]


def test_tiles_of_an_attempt_that_was_overtaken_are_left_out(stack: Stack, client: Client) -> None:
    generation = stack.worker.start(client.create({"prompt": "a fox"}).id)
    reference = stack.worker.tile(generation, 0, b"gone", done=1)
    stack.worker.tile(generation, 1, b"there", done=2)
    stack.worker.succeed(generation)
    stack.store.delete_prefix(reference.key)
    assert [tile.data for tile in client.tiles(generation.id)] == [b"there"]


def test_the_list_goes_on_over_pages(stack: Stack, client: Client) -> None:
    ids = [stack.submit() for _ in range(5)]
    assert [each.id for each in client.list(page_size=2)] == ids[::-1]
    client.cancel(ids[0])
    assert [each.id for each in client.list(status="cancelled")] == ids[:1]


def test_a_request_may_be_of_the_domain(client: Client) -> None:
    request = GenerationRequest(prompt="a fox", seed=7, client_metadata={"job": "9"})
    generation = client.create(request)
    assert generation.request.seed == 7
    assert generation.client_metadata == {"job": "9"}


def test_uploads_and_batches(stack: Stack, client: Client) -> None:
    picture = client.upload(base64.b64decode(EXAMPLE_PICTURE.partition(",")[2]))
    assert (picture.width, picture.height) == (8, 8)
    batch = client.create_batch({"prompt": "a fox", "image": picture.id, "seed": 7}, 3)
    assert [each.request.seed for each in batch] == [7, 8, 9]
    assert {each.request.image for each in batch} == {picture.id}
    assert stack.count() == 3


def test_events_after_one_that_is_known(stack: Stack, client: Client) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)
    events = list(client.events(generation_id))
    assert list(client.events(generation_id, after=events[5].id)) == events[6:]
    assert list(client.events(generation_id, after=events[-1].id)) == []


def test_the_end_of_a_generation_that_fails_or_is_cancelled(stack: Stack, client: Client) -> None:
    failing = stack.submit()
    stack.worker.fail(stack.worker.start(failing))
    with pytest.raises(GenerationFailedError, match="too large") as failed:
        client.wait(failing)
    assert failed.value.generation.error is not None
    assert failed.value.generation.error.reason == "OUT_OF_MEMORY"
    assert not failed.value.retryable
    unwanted = stack.submit()
    assert client.cancel(unwanted).status is Status.CANCELLED
    with pytest.raises(GenerationCancelledError):
        client.wait(unwanted)


def test_waiting_and_downloading_too_early(stack: Stack, client: Client, tmp_path: Path) -> None:
    generation_id = stack.submit()
    with pytest.raises(WaitTimeoutError):
        client.wait(generation_id, timeout=0.2)
    assert client.get(generation_id).status is Status.QUEUED
    with pytest.raises(NotReadyError):
        client.download(generation_id, tmp_path / "fox.png")
    assert list(tmp_path.iterdir()) == []


def test_what_the_service_refuses_is_told_by_type(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match="width: 1001 is not allowed") as refused:
        client.create({"prompt": "a fox", "width": 1001})
    assert [violation.field for violation in refused.value.violations] == ["width"]
    assert (refused.value.status, refused.value.reason) == (422, "INVALID_REQUEST")
    assert refused.value.request_id
    with pytest.raises(NotFoundError):
        client.get(UNKNOWN)
    client.create({"prompt": "a fox"}, idempotency_key="mine")
    with pytest.raises(IdempotencyError):
        client.create({"prompt": "a hen"}, idempotency_key="mine")


@pytest.mark.parametrize("act", [Client.cancel, Client.delete, Client.wait])
def test_what_is_not_there_is_not_found(
    client: Client, act: Callable[[Client, str], object]
) -> None:
    with pytest.raises(NotFoundError):
        act(client, UNKNOWN)


def test_every_problem_that_clients_meet_has_a_class() -> None:
    images_api_only = {"generation-cancelled", "generation-failed", "waited-too-long"}
    for kind in PROBLEM_TYPES:
        error = error_of(Reply(kind.status, {}, f'{{"type": "{kind.uri}"}}'.encode()))
        assert (type(error) is ApiError) == (kind.slug in images_api_only), kind.slug


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (models.Generation, schemas.GenerationView),
        (models.Result, schemas.ResultView),
        (models.Artifact, schemas.ArtifactView),
        (models.Pyramid, schemas.PyramidView),
        (models.QueuePlace, schemas.QueueView),
        (models.Model, schemas.ModelView),
    ],
)
def test_the_client_reads_only_what_the_service_writes(
    ours: type[models.Generation], theirs: type[schemas.View]
) -> None:
    assert set(ours.model_fields) <= set(theirs.model_fields)


def test_the_client_loads_nothing_of_the_service() -> None:
    program = "import hidiffusion_client, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"fastapi", "starlette", "redis", "rq", "grpc", "obstore", "torch", "hidiffusion"}
    assert heavy.isdisjoint(loaded)
    assert "httpx" in loaded


def test_an_address_is_looked_at_first() -> None:
    with pytest.raises(ValueError, match="'localhost:8000' is no address"):
        Client("localhost:8000")
