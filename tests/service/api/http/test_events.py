"""Server-sent events: order, resumption, the end."""

import json
import re
import socket
import threading
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import httpx
import httpx_sse
import pytest
from httpx_sse import ServerSentEvent

from service.domain.generations.generation import Status
from service.events.connection import connect
from service.records.records import RedisRecords
from service.settings import RedisSettings, StoreSettings
from tests.servers import RedisServer
from tests.service.api.stack import Stack, running_stack


def _events(
    stack: Stack, generation_id: str, after: str | None = None, limit: int | None = None
) -> list[ServerSentEvent]:
    headers = {"Last-Event-ID": after} if after else {}
    path = f"/v1/generations/{generation_id}/events"
    seen: list[ServerSentEvent] = []
    with httpx_sse.connect_sse(stack.http, "GET", path, headers=headers) as source:
        for event in source.iter_sse():
            if event.data:
                seen.append(event)
            if len(seen) == limit:
                break
    return seen


def test_events_come_in_order_and_end_with_the_final_one(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)

    events = _events(stack, generation_id)

    names = [event.event for event in events]
    assert names == [
        "queued", "started", "step", "step", "step", "preview", "tile", "tile", "succeeded",
    ]  # fmt: skip
    assert [json.loads(event.data)["type"] for event in events] == names
    assert [event.id for event in events] == sorted(event.id for event in events)


def test_events_link_to_artifacts_that_can_be_fetched(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)

    events = {event.event: json.loads(event.data) for event in _events(stack, generation_id)}

    assert stack.http.get(events["preview"]["href"]).content == b"preview"
    assert stack.http.get(events["tile"]["tile"]["href"]).content == b"tile one"
    assert stack.http.get(events["succeeded"]["result"]["image"]["href"]).status_code == 200
    assert all("key" not in json.dumps(event) for event in events.values())


def test_live_watcher_sees_what_happens_after_it_came(stack: Stack) -> None:
    generation_id = stack.submit()
    seen: list[ServerSentEvent] = []
    watcher = threading.Thread(target=lambda: seen.extend(_events(stack, generation_id)))
    watcher.start()

    stack.worker.run(generation_id)
    watcher.join(10)

    assert len(seen) == 9
    assert seen[-1].event == "succeeded"


def test_resumed_stream_has_exactly_the_missing_events(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)
    whole = [(event.id, event.data) for event in _events(stack, generation_id)]

    for seen in range(1, len(whole)):
        first = _events(stack, generation_id, limit=seen)
        rest = _events(stack, generation_id, after=first[-1].id)
        assert [(event.id, event.data) for event in first + rest] == whole


def test_stream_seen_to_its_end_has_no_content(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)
    last = _events(stack, generation_id)[-1].id

    response = stack.http.get(
        f"/v1/generations/{generation_id}/events", headers={"Last-Event-ID": last}
    )

    assert response.status_code == 204
    assert response.content == b""


def test_proxies_are_told_not_to_buffer_or_cache(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.http.delete(f"/v1/generations/{generation_id}")

    response = stack.http.get(f"/v1/generations/{generation_id}/events")

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    retry = re.search(r"^retry: (\d+)$", response.text, re.MULTILINE)
    assert retry is not None
    assert 1000 <= int(retry[1]) <= 3000


def test_silence_is_broken_by_comments(stack: Stack) -> None:
    generation_id = stack.submit()
    lines = []
    with stack.http.stream("GET", f"/v1/generations/{generation_id}/events") as response:
        for line in response.iter_lines():
            lines.append(line)
            if lines.count(": keep-alive") == 2:
                break

    assert [line for line in lines if line.startswith("event:")] == ["event: queued"]


def test_failure_is_told_with_its_reason(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.fail(stack.worker.start(generation_id))

    final = _events(stack, generation_id)[-1]

    assert final.event == "failed"
    assert json.loads(final.data)["error"] == {
        "reason": "OUT_OF_MEMORY",
        "detail": "the picture is too large",
        "retryable": False,
    }


def test_position_that_is_no_event_id_is_refused_before_the_stream(stack: Stack) -> None:
    generation_id = stack.submit()

    for position in ("yesterday", "1-", f"{2**64}-0"):
        response = stack.http.get(
            f"/v1/generations/{generation_id}/events", headers={"Last-Event-ID": position}
        )
        assert response.status_code == 422
        assert response.json()["errors"][0]["field"] == "Last-Event-ID"


def test_unknown_generation_has_no_stream(stack: Stack) -> None:
    response = stack.http.get("/v1/generations/nobody/events")

    assert response.status_code == 404
    assert response.json()["type"] == "/problems/generation-not-found"


ASKED = [({"cancel_on_disconnect": "true"}, {}), ({}, {"Prefer": "cancel-on-disconnect"})]


def _hang_up(
    stack: Stack, generation_id: str, query: dict[str, str], headers: dict[str, str]
) -> None:
    """Watch until something is said, and close the socket without a word."""
    path = f"/v1/generations/{generation_id}/events?{urlencode(query)}"
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    address = urlsplit(stack.endpoints.http_url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n{fields}\r\n".encode()
        )
        said = b""
        while b"event: queued" not in said:
            more = connection.recv(4096)
            assert more, said
            said += more


def _status(stack: Stack, generation_id: str, patience: float = 10) -> Status:
    """Its status once it is cancelled, or as it stands after `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if stack.records.get(generation_id).status is Status.CANCELLED:
            break
        time.sleep(0.05)
    return stack.records.get(generation_id).status


@pytest.mark.parametrize(("query", "headers"), ASKED)
def test_a_lost_connection_takes_the_generation_with_it_where_asked(
    stack: Stack, query: dict[str, str], headers: dict[str, str]
) -> None:
    generation_id = stack.submit()
    _hang_up(stack, generation_id, query, headers)

    assert _status(stack, generation_id) is Status.CANCELLED


def test_a_generation_that_runs_is_told_to_stop(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.start(generation_id)
    _hang_up(stack, generation_id, *ASKED[0])

    deadline = time.monotonic() + 10
    while not stack.records.get(generation_id).cancel_requested:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_generation_goes_on_unless_asked(stack: Stack) -> None:
    generation_id = stack.submit()
    _hang_up(stack, generation_id, {"cancel_on_disconnect": "false"}, {"Prefer": "wait=1"})

    assert _status(stack, generation_id, patience=1) is Status.QUEUED


def test_a_stream_that_the_service_interrupts_cancels_nothing(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    with running_stack(own_redis.url, StoreSettings(url=(tmp_path / "s").as_uri())) as stack:
        generation_id = stack.submit()
        path = f"/v1/generations/{generation_id}/events"
        with stack.http.stream("GET", path, params=ASKED[0][0]) as response:
            said = ""
            for text in response.iter_text():
                said += text
                if "queued" in text:
                    own_redis.stop()
        own_redis.start()

        assert "interrupted" in said
        assert _status(stack, generation_id, patience=0.5) is Status.QUEUED


def test_a_server_that_shuts_down_cancels_nothing(redis_url: str, tmp_path: Path) -> None:
    with running_stack(redis_url, StoreSettings(url=(tmp_path / "s").as_uri())) as stack:
        generation_id = stack.submit()
        path = f"{stack.endpoints.http_url}/v1/generations/{generation_id}/events"
        client = httpx.Client(timeout=10)
        watched = client.send(client.build_request("GET", path, params=ASKED[0][0]), stream=True)
        texts = watched.iter_text()  # httpx hangs up when nobody holds it any more
        assert "retry" in next(texts)
    client.close()

    with closing(connect(redis_url)) as redis:
        assert RedisRecords(redis, RedisSettings()).get(generation_id).status is Status.QUEUED
