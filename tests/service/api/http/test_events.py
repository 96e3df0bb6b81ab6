"""Server-sent events: order, resumption, the end."""

import json
import threading

import httpx_sse
from httpx_sse import ServerSentEvent

from tests.service.api.stack import Stack


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
    assert "retry: 2000" in response.text


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
