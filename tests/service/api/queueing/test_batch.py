"""Several pictures of one request, through both front ends: accepted all or none."""

import concurrent.futures
from typing import Any

import grpc
import httpx
import pytest

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from service.domain.requests.request_examples import EXAMPLE_PICTURE
from tests.service.api.stack import Stack

LAST_SEED = 2**53 - 1


def post(stack: Stack, key: str | None = None, **fields: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    body = {"prompt": "a fox", **fields}
    return stack.http.post("/v1/generations/batch", json=body, headers=headers)


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 202, response.text
    return [each["id"] for each in response.json()["generations"]]


def call(stack: Stack, n: int, **fields: Any) -> list[str]:
    request = rpc.CreateGenerationRequest(**{"prompt": "a fox", **fields})
    asked = rpc.BatchCreateGenerationsRequest(request=request, n=n)
    return [each.id for each in stack.stub.BatchCreateGenerations(asked).generations]


def test_pictures_differ_in_their_seeds_alone(stack: Stack) -> None:
    response = post(stack, n=3, seed=LAST_SEED - 1, width=256, height=256, priority="high")
    generations = response.json()["generations"]
    assert [each["request"].pop("seed") for each in generations] == [LAST_SEED - 1, LAST_SEED, 0]
    assert all(each["request"] == generations[0]["request"] for each in generations)
    assert {each["priority"] for each in generations} == {"high"}
    listed = [each["id"] for each in stack.http.get("/v1/generations").json()["generations"]]
    assert listed == ids(response)[::-1]
    positions = [stack.http.get(f"/v1/generations/{each}").json() for each in ids(response)]
    assert [each["queue"]["position"] for each in positions] == [1, 2, 3]


def test_a_drawn_seed_is_the_first_of_them(stack: Stack) -> None:
    seeds = [each["request"]["seed"] for each in post(stack, n=2).json()["generations"]]
    assert (seeds[0] + 1) % 2**53 == seeds[1]


def test_one_picture_starts_all_of_them(stack: Stack) -> None:
    generations = post(stack, n=2, image=EXAMPLE_PICTURE).json()["generations"]
    assert len({each["request"]["image"] for each in generations}) == 1
    assert all(stack.records.get(each["id"]).inputs for each in generations)


def test_one_key_stands_for_all_on_both_sides(stack: Stack) -> None:
    first = ids(post(stack, "k", n=3))
    assert ids(post(stack, "k", n=3)) == first
    assert call(stack, 3, idempotency_key="k") == first
    assert stack.count() == 3
    assert post(stack, "k", n=2).json()["reason"] == "IDEMPOTENCY_KEY_REUSED"
    single = {"Idempotency-Key": "k"}
    alone = stack.http.post("/v1/generations", json={"prompt": "a fox"}, headers=single)
    assert alone.json()["reason"] == "IDEMPOTENCY_KEY_REUSED"


def test_a_batch_of_one_is_a_generation(stack: Stack) -> None:
    headers = {"Idempotency-Key": "k"}
    alone = stack.http.post("/v1/generations", json={"prompt": "a fox"}, headers=headers)
    assert ids(post(stack, "k", n=1)) == [alone.json()["id"]]


def test_of_many_at_once_with_one_key_one_is_accepted(stack: Stack) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda _: ids(post(stack, "k", n=4)), range(16))]
    assert answers == [answers[0]] * 16
    assert stack.count() == 4


def test_what_was_purged_is_left_out_of_a_repeated_answer(stack: Stack) -> None:
    first = ids(post(stack, "k", n=2))
    stack.http.delete(f"/v1/generations/{first[0]}?purge=true")
    assert ids(post(stack, "k", n=2)) == first[1:]
    stack.http.delete(f"/v1/generations/{first[1]}?purge=true")
    assert len(ids(post(stack, "k", n=2))) == 2


@pytest.mark.parametrize("n", [0, -1, 17, 2**31])
def test_the_number_has_limits(stack: Stack, n: int) -> None:
    refused = post(stack, n=n)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "n")
    with pytest.raises(grpc.RpcError) as caught:
        call(stack, min(n, 2**31 - 1))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert stack.count() == 0


def test_without_a_number_or_with_a_broken_rule_nothing_is_accepted(stack: Stack) -> None:
    assert post(stack).json()["errors"][0]["field"] == "n"
    assert post(stack, n=2, width=7).status_code == 422
    assert post(stack, n=2, size="big").json()["errors"][0]["field"] == "size"
    assert stack.count() == 0


def test_a_field_inside_that_is_unknown_is_refused(stack: Stack) -> None:
    request = rpc.CreateGenerationRequest.FromString(b"\x0a\x05a fox" + b"\x80\x7d\x01")
    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.BatchCreateGenerations(rpc.BatchCreateGenerationsRequest(request=request, n=2))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "field number 2000" in (caught.value.details() or "")


def test_waiting_for_all_of_them(stack: Stack) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        headers = {"Prefer": "wait=2", "Idempotency-Key": "k"}
        body = {"prompt": "a fox", "n": 2}
        accepted = ids(post(stack, "k", n=2))
        later = pool.submit(stack.http.post, "/v1/generations/batch", json=body, headers=headers)
        for each in accepted:
            stack.worker.run(each)
        done = later.result()
    assert (done.status_code, done.headers["preference-applied"]) == (200, "wait=2")
    assert {each["status"] for each in done.json()["generations"]} == {"succeeded"}
