"""The client in bad times: lost answers, cut streams, limits, half downloads."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.client import (
    ApiError,
    AsyncClient,
    Client,
    DownloadCorruptedError,
    NotFoundError,
    RateLimitedError,
    RetryPolicy,
    UnreachableError,
)
from service.settings import StoreSettings
from tests.servers import CuttingProxy, RedisServer
from tests.service.api.played_worker import IMAGE
from tests.service.api.stack import Stack, running_stack
from tests.service.client.scripted_server import Answer, scripted_server

QUICK = RetryPolicy(first_pause=0.01)
PICTURE = bytes(range(256)) * 64
RECORD_PATH, IMAGE_PATH = "/v1/generations/one", "/v1/generations/one/image"


@pytest.fixture
def proxy(stack: Stack) -> Iterator[CuttingProxy]:
    """A wire to the service that can be cut."""
    port = urlsplit(stack.endpoints.http_url).port
    assert port is not None
    proxy = CuttingProxy(port)
    yield proxy
    proxy.cut_all()
    proxy.close()


@pytest.fixture
def client(proxy: CuttingProxy) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{proxy.port}", retry=QUICK) as client:
        yield client


def record(status: str = "succeeded", picture: bytes = PICTURE) -> bytes:
    """The record of a finished generation, as the service writes it."""
    image = {
        "href": IMAGE_PATH,
        "media_type": "image/png",
        "bytes": len(picture),
        "sha256": hashlib.sha256(picture).hexdigest(),
    }
    pyramid = {"href": "", "tile_size": 512, "overlap": 1, "format": "png", "levels": []}
    request: dict[str, Any] = {
        "prompt": "a fox",
        "negative_prompt": "",
        "model": "emoji",
        "width": 512,
        "height": 512,
        "num_inference_steps": 25,
        "guidance_scale": 5.0,
        "seed": 1,
        "scheduler": "DDIMScheduler",
        "method": "direct",
        "output_format": "png",
    }
    fields = {
        "id": "one",
        "status": status,
        "request": request,
        "attempt": 1,
        "progress": {},
        "cancel_requested": False,
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": None,
        "finished_at": None,
        "error": None,
        "result": {
            "width": 512,
            "height": 512,
            "image": image,
            "thumbnail": image,
            "pyramid": pyramid,
            "recipe": {},
        },
        "new_since_this_client": 1,
    }
    return json.dumps(fields).encode()


def part(first: int, **options: Any) -> Answer:
    """The picture from a byte on."""
    return Answer(206, PICTURE[first:], {"content-range": f"bytes {first}-"}, **options)


def test_a_lost_answer_does_not_create_twice(
    stack: Stack, proxy: CuttingProxy, client: Client
) -> None:
    proxy.lose_the_reply_to(b"POST /v1/generations")
    generation = client.create({"prompt": "a fox"})
    assert proxy.cuts == 1
    assert stack.count() == 1
    assert client.get(generation.id).id == generation.id


async def test_a_lost_answer_does_not_create_twice_on_an_event_loop(
    stack: Stack, proxy: CuttingProxy
) -> None:
    proxy.lose_the_reply_to(b"POST /v1/generations")
    async with AsyncClient(f"http://127.0.0.1:{proxy.port}", retry=QUICK) as client:
        await client.create({"prompt": "a fox"})
    assert (proxy.cuts, stack.count()) == (1, 1)


def test_a_lost_answer_to_delete_is_no_error(
    stack: Stack, proxy: CuttingProxy, client: Client
) -> None:
    generation_id = stack.submit()
    proxy.lose_the_reply_to(b"DELETE /v1/generations")
    client.delete(generation_id)
    assert proxy.cuts == 1
    with pytest.raises(NotFoundError):
        client.get(generation_id)


def test_a_stream_cut_after_every_event_misses_and_repeats_none(
    stack: Stack, proxy: CuttingProxy, client: Client
) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)
    ids = []
    for event in client.events(generation_id):
        ids.append(event.id)
        proxy.cut_all()
    with Client(stack.endpoints.http_url) as direct:
        assert ids == [event.id for event in direct.events(generation_id)]


async def test_a_stream_cut_while_it_waits_goes_on(stack: Stack, proxy: CuttingProxy) -> None:
    generation_id = stack.submit()
    generation = stack.worker.start(generation_id)
    seen = []
    async with AsyncClient(f"http://127.0.0.1:{proxy.port}", retry=QUICK) as client:
        async for event in client.events(generation_id):
            seen.append(event.type)
            if event.type == "started":
                proxy.cut_all()
                stack.worker.step(generation, 1)
                stack.worker.succeed(generation)
    assert seen == ["queued", "started", "step", "succeeded"]


def test_events_go_on_where_a_lost_redis_broke_them_off(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    store = StoreSettings(url=(tmp_path / "store").as_uri())
    (tmp_path / "store").mkdir()
    with (
        running_stack(own_redis.url, store) as stack,
        Client(stack.endpoints.http_url) as client,
    ):
        generation_id = client.create({"prompt": "a fox"}).id
        seen: list[str] = []

        def watch() -> None:
            seen.extend(event.type for event in client.events(generation_id))

        watcher = threading.Thread(target=watch)
        watcher.start()
        own_redis.stop()
        time.sleep(1.0)
        own_redis.start()
        stack.worker.run(generation_id)
        watcher.join(30)

        assert seen[:2] == ["queued", "started"]
        assert seen[-1] == "succeeded"
        assert seen.count("step") == 3
        client.download(generation_id, tmp_path / "image")
        assert (tmp_path / "image").read_bytes() == IMAGE


def test_a_service_that_is_not_there_is_named_with_the_way_out() -> None:
    with (
        Client("http://127.0.0.1:9", retry=QUICK) as client,
        pytest.raises(UnreachableError, match="hidiffusion up"),
    ):
        client.create({"prompt": "a fox"})


def limited(retry_after: str) -> Answer:
    body = b'{"type": "/problems/rate-limited", "detail": "60 requests a minute"}'
    return Answer(429, body, {"retry-after": retry_after})


@pytest.mark.parametrize("date", [False, True])
def test_the_client_waits_as_long_as_it_is_asked_to(date: bool) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    answers = {RECORD_PATH: [limited(later if date else "1"), Answer(200, record())]}
    with scripted_server(answers) as server, Client(server.url, retry=QUICK) as client:
        begun = time.monotonic()
        assert client.get("one").id == "one"
        assert time.monotonic() - begun >= 0.9
    assert len(server.asked) == 2


def test_a_wait_that_is_too_long_is_the_callers_to_decide() -> None:
    with (
        scripted_server({RECORD_PATH: [limited("3600")]}) as server,
        Client(server.url) as client,
        pytest.raises(RateLimitedError, match="60 requests") as refused,
    ):
        client.get("one")
    assert refused.value.retry_after == 3600
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "tries"),
    [
        (Answer(503, b"no JSON"), 6),
        (Answer(502, b"[]"), 6),
        (Answer(503, b"", {"x-should-retry": "false"}), 1),
        (Answer(500, b'{"type": "/problems/internal"}'), 1),
        (Answer(404, b""), 1),
    ],
)
def test_only_what_may_pass_is_tried_again(answer: Answer, tries: int) -> None:
    with (
        scripted_server({RECORD_PATH: [answer]}) as server,
        Client(server.url, retry=QUICK) as client,
        pytest.raises(ApiError) as refused,
    ):
        client.get("one")
    assert refused.value.status == answer.status
    assert len(server.asked) == tries


@pytest.mark.parametrize(("given", "sent"), [("mine", "Bearer mine"), (None, "Bearer theirs")])
def test_the_key_is_an_argument_or_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, given: str | None, sent: str
) -> None:
    monkeypatch.setenv("HIDIFFUSION_KEY", "theirs")
    with (
        scripted_server({RECORD_PATH: [Answer(200, record())]}) as server,
        Client(server.url, api_key=given) as client,
    ):
        client.get("one")
    assert server.headers(RECORD_PATH, "authorization") == [sent]


def download(answers: list[Answer], target: Path) -> list[str | None]:
    """Download the scripted picture; returns the ranges that were asked for."""
    script = {RECORD_PATH: [Answer(200, record())], IMAGE_PATH: answers}
    with scripted_server(script) as server, Client(server.url, retry=QUICK) as client:
        try:
            client.download("one", target)
        finally:
            ranges = server.headers(IMAGE_PATH, "range")
    return ranges


def test_a_download_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    target = tmp_path / "fox.png"
    with pytest.raises(ApiError):
        download([part(0, cut_after=5000), Answer(404)], target)
    assert not target.exists()
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_size == 5000

    ranges = download([part(5000, cut_after=1000), part(6000)], target)
    assert ranges == ["bytes=5000-", "bytes=6000-"]
    assert target.read_bytes() == PICTURE
    assert list(tmp_path.iterdir()) == [target]


async def test_a_download_goes_on_on_an_event_loop(tmp_path: Path) -> None:
    script = {
        RECORD_PATH: [Answer(200, record())],
        IMAGE_PATH: [part(0, cut_after=5000), part(5000)],
    }
    with scripted_server(script) as server:
        async with AsyncClient(server.url, retry=QUICK) as client:
            await client.download("one", tmp_path / "fox.png")
    assert (tmp_path / "fox.png").read_bytes() == PICTURE
    assert server.headers(IMAGE_PATH, "range") == ["bytes=0-", "bytes=5000-"]


def test_a_server_without_ranges_begins_anew(tmp_path: Path) -> None:
    ranges = download([Answer(200, PICTURE, cut_after=100), Answer(200, PICTURE)], tmp_path / "a")
    assert ranges == ["bytes=0-", "bytes=100-"]
    assert (tmp_path / "a").read_bytes() == PICTURE


def test_what_arrived_changed_is_fetched_once_more(tmp_path: Path) -> None:
    changed = Answer(206, b"\0" * len(PICTURE))
    ranges = download([changed, part(0)], tmp_path / "a")
    assert ranges == ["bytes=0-", "bytes=0-"]
    assert (tmp_path / "a").read_bytes() == PICTURE
    (tmp_path / "a").write_bytes(b"older")
    with pytest.raises(DownloadCorruptedError, match="another SHA-256"):
        download([changed], tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
