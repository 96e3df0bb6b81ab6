"""Create, read, list, cancel and purge over HTTP."""

import threading
import time
from typing import Any

import httpx
import pytest

from service.domain.generations.generation import Status
from tests.service.api.stack import MAX_WAIT_SECONDS, Stack


def test_accepted_request_is_queued_with_every_default_filled_in(stack: Stack) -> None:
    response = stack.http.post("/v1/generations", json={"prompt": "a red guitar", "seed": 7})

    assert response.status_code == 202
    body = response.json()
    assert response.headers["location"] == f"/v1/generations/{body['id']}"
    assert body["status"] == "queued"
    assert body["request"] == {
        "prompt": "a red guitar",
        "negative_prompt": "",
        "model": "emoji",
        "width": 512,
        "height": 512,
        "num_inference_steps": 25,
        "guidance_scale": 5.0,
        "seed": 7,
        "scheduler": "DDIMScheduler",
        "method": "hidiffusion",
        "method_options": {
            "aggressive_ratio": None,
            "control_ratio": None,
            "extra_window_levels": 0,
            "extra_window_start": 0.0,
            "t1_ratio": None,
            "t2_ratio": None,
            "window_grid": 2,
        },
        "prompt_weighting": False,
        "loras": [],
        "output_format": "png",
        "bit_depth": 8,
        "quality": None,
        "tile_format": "png",
        "tiles": True,
        "metadata": True,
        "image": None,
        "scale": None,
        "class_label": None,
        "upscale": None,
        "mask": None,
        "strength": None,
        "controls": [],
        "image_prompt": None,
    }
    assert body["links"] == {
        "self": f"/v1/generations/{body['id']}",
        "events": f"/v1/generations/{body['id']}/events",
        "tiles": None,
        "iiif": None,
        "image": None,
        "thumbnail": None,
    }
    record = stack.http.get(response.headers["location"]).json()
    assert record.pop("queue")["position"] == 1
    assert body.pop("queue") is None
    assert record == body


def test_finished_record_links_to_its_artifacts_and_tells_no_key(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)

    response = stack.http.get(f"/v1/generations/{generation_id}")

    body = response.json()
    prefix = f"/v1/generations/{generation_id}"
    assert body["status"] == "succeeded"
    assert body["result"]["image"]["href"] == body["links"]["image"] == f"{prefix}/image"
    assert body["result"]["thumbnail"]["href"] == f"{prefix}/thumbnail"
    assert body["result"]["pyramid"]["href"] == body["links"]["tiles"] == f"{prefix}/tiles.dzi"
    assert body["result"]["recipe"]["versions"] == {"torch": "2.13.0"}
    assert "key" not in response.text.replace("monkey", "")
    assert f"generations/{generation_id}/1/" not in response.text


@pytest.mark.parametrize("key", ['"8e03978e-40d5"', "8e03978e-40d5"])
def test_same_key_and_body_name_the_same_generation(stack: Stack, key: str) -> None:
    body = {"prompt": "a fox"}
    first = stack.http.post("/v1/generations", json=body, headers={"Idempotency-Key": key})
    again = stack.http.post(
        "/v1/generations", json=body, headers={"Idempotency-Key": '"8e03978e-40d5"'}
    )

    assert first.status_code == again.status_code == 202
    assert again.json() == first.json()
    assert stack.count() == 1


def test_wait_returns_the_final_record(stack: Stack) -> None:
    def work() -> None:
        while not stack.count():
            time.sleep(0.01)
        page = stack.records.list(status=None, cursor=None, limit=1)
        stack.worker.run(page.generations[0].id)

    thread = threading.Thread(target=work)
    thread.start()
    response = stack.http.post(
        "/v1/generations", json={"prompt": "a fox"}, headers={"Prefer": "wait=1"}
    )
    thread.join()

    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=1"
    assert response.json()["status"] == "succeeded"


def test_wait_is_capped_and_ends_with_the_record_as_it_stands(stack: Stack) -> None:
    response = stack.http.post(
        "/v1/generations",
        json={"prompt": "a fox"},
        headers={"Prefer": "respond-async, wait=86400"},
    )

    assert response.status_code == 202
    assert response.headers["preference-applied"] == f"wait={MAX_WAIT_SECONDS}"
    assert response.json()["status"] == "queued"


@pytest.mark.parametrize(
    ("preference", "left"),
    [("wait=9, cancel-on-disconnect", Status.CANCELLED), ("wait=9", Status.QUEUED)],
)
@pytest.mark.parametrize("path", ["/v1/generations", "/v1/generations/batch"])
def test_leaving_cancels_where_that_was_asked_for(
    stack: Stack, path: str, preference: str, left: Status
) -> None:
    body: dict[str, Any] = {"prompt": "a fox"} | ({"n": 2} if path.endswith("batch") else {})
    with pytest.raises(httpx.ReadTimeout):
        stack.http.post(path, json=body, headers={"Prefer": preference}, timeout=1.5)

    expected = [left] * body.get("n", 1)
    deadline = time.monotonic() + 30
    while _statuses(stack) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    assert _statuses(stack) == expected


def _statuses(stack: Stack) -> list[Status]:
    page = stack.records.list(status=None, cursor=None, limit=10)
    return [each.status for each in page.generations]


def test_pages_are_newest_first_and_lose_nothing(stack: Stack) -> None:
    submitted = [stack.submit() for _ in range(5)]

    seen, cursor = [], None
    while True:
        parameters = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = stack.http.get("/v1/generations", params=parameters).json()
        seen += [generation["id"] for generation in page["generations"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert sorted(seen) == sorted(submitted)
    assert seen[0] > seen[-1]


def test_list_narrows_to_a_status(stack: Stack) -> None:
    done, waiting = stack.submit(), stack.submit()
    stack.worker.run(done)

    page = stack.http.get("/v1/generations", params={"status": "queued"}).json()

    assert [generation["id"] for generation in page["generations"]] == [waiting]


def test_queued_generation_is_cancelled_at_once(stack: Stack) -> None:
    generation_id = stack.submit()

    response = stack.http.delete(f"/v1/generations/{generation_id}")

    assert response.status_code == 200
    assert response.json()["status"] == "cancelled"


def test_running_generation_is_told_to_stop(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.start(generation_id)

    response = stack.http.delete(f"/v1/generations/{generation_id}")

    assert response.status_code == 202
    assert response.json()["status"] == "running"
    assert response.json()["cancel_requested"] is True


def test_finished_generation_stays_as_it_is_when_cancelled(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)

    response = stack.http.delete(f"/v1/generations/{generation_id}")

    assert response.status_code == 200
    assert response.json()["status"] == "succeeded"


def test_purge_leaves_nothing(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)

    response = stack.http.delete(f"/v1/generations/{generation_id}", params={"purge": True})

    assert response.status_code == 204
    assert stack.http.get(f"/v1/generations/{generation_id}").status_code == 404
    assert stack.store.keys(f"generations/{generation_id}/") == []


def test_running_generation_cannot_be_purged(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.start(generation_id)

    response = stack.http.delete(f"/v1/generations/{generation_id}", params={"purge": True})

    assert response.status_code == 409
    assert response.json()["type"] == "/problems/conflict"
    assert stack.http.get(f"/v1/generations/{generation_id}").status_code == 200


def test_models_tell_limits_and_warm_workers_but_not_where_weights_lie(stack: Stack) -> None:
    stack.add_worker()
    stack.submit()

    response = stack.http.get("/v1/models")

    (model,) = response.json()["models"]
    assert model["name"] == "emoji"
    assert (model["min_size"], model["max_size"]) == (128, 4096)
    assert model["schedulers"] == ["DDIMScheduler", "EulerDiscreteScheduler"]
    assert (model["warm_workers"], model["queued"]) == (1, 1)
    assert "somewhere" not in response.text


def test_readiness_tells_the_workers_and_does_not_ask_for_one(stack: Stack) -> None:
    assert stack.http.get("/healthz").json() == {"status": "ok"}
    without = stack.http.get("/readyz")
    stack.add_worker()
    with_one = stack.http.get("/readyz")

    assert (without.status_code, without.json()["workers"]) == (200, [])
    assert with_one.status_code == 200
    (worker,) = with_one.json()["workers"]
    assert (worker["state"], worker["pipeline_loads"], worker["pipeline_evictions"]) == (
        "idle",
        1,
        0,
    )
