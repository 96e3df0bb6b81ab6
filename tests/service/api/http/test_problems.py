"""Every error is a problem document, and every problem type explains itself."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.api.http.errors.problems import PROBLEM_TYPES, ProblemType
from tests.service.api.stack import MAX_BODY_BYTES, Stack

DOCUMENTATION = Path(__file__).parents[4] / "docs" / "api" / "problems.md"


def _check(response: httpx.Response, slug: str, status: int) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, object] = response.json()
    assert problem["type"] == f"/problems/{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["reason"] == slug.upper().replace("-", "_")
    assert problem["instance"] == response.request.url.path
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


def test_unknown_path(stack: Stack) -> None:
    _check(stack.http.get("/v2/pictures"), "not-found", 404)


def test_wrong_method(stack: Stack) -> None:
    response = stack.http.put("/v1/models")

    _check(response, "method-not-allowed", 405)
    assert response.headers["allow"] == "GET"


def test_every_method_of_a_path_is_allowed_by_name(stack: Stack) -> None:
    allowed = {
        "/v1/generations": "GET, POST",
        "/v1/generations/some": "DELETE, GET",
        "/v1/generations/some/image": "GET, HEAD",
    }

    for path, methods in allowed.items():
        assert stack.http.patch(path).headers["allow"] == methods


def test_unknown_generation(stack: Stack) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/image"), ("GET", "/tiles.dzi")):
        response = stack.http.request(method, f"/v1/generations/nobody{path}")
        problem = _check(response, "generation-not-found", 404)
        assert "'nobody'" in str(problem["detail"])


@pytest.mark.parametrize("body", [b"{", b'{"prompt": "a fox",}', b"\xff\xfe", b"1" * 5000])
def test_body_that_is_not_json(stack: Stack, body: bytes) -> None:
    response = stack.http.post(
        "/v1/generations", content=body, headers={"content-type": "application/json"}
    )

    _check(response, "malformed-request", 400)
    assert stack.count() == 0


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_body_of_another_type(stack: Stack, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = stack.http.post("/v1/generations", content=b'{"prompt": "x"}', headers=headers)

    _check(response, "unsupported-media-type", 415)
    assert stack.count() == 0


def test_body_over_the_limit_by_declaration(stack: Stack) -> None:
    response = stack.http.post(
        "/v1/generations", json={"prompt": "a fox", "negative_prompt": "x" * MAX_BODY_BYTES}
    )

    problem = _check(response, "body-too-large", 413)
    assert str(MAX_BODY_BYTES) in str(problem["detail"])
    assert stack.count() == 0


def test_body_over_the_limit_without_declaring_its_length(stack: Stack) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"prompt": "a fox", "negative_prompt": "'
        for _ in range(MAX_BODY_BYTES // 1024 + 1):
            yield b"x" * 1024
        yield b'"}'

    response = stack.http.post(
        "/v1/generations", content=pieces(), headers={"content-type": "application/json"}
    )

    _check(response, "body-too-large", 413)
    assert stack.count() == 0


def test_same_key_with_another_body(stack: Stack) -> None:
    headers = {"Idempotency-Key": "one"}
    stack.http.post("/v1/generations", json={"prompt": "a fox"}, headers=headers)
    response = stack.http.post("/v1/generations", json={"prompt": "a dog"}, headers=headers)

    _check(response, "idempotency-key-reused", 422)
    assert stack.count() == 1


@pytest.mark.parametrize("key", ["", '""', "x" * 256])
def test_key_that_is_none(stack: Stack, key: str) -> None:
    response = stack.http.post(
        "/v1/generations", json={"prompt": "a fox"}, headers={"Idempotency-Key": key}
    )

    problem = _check(response, "invalid-request", 422)
    assert problem["errors"][0]["field"] == "Idempotency-Key"  # type: ignore[index]
    assert stack.count() == 0


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"status": "lost"}, "status"),
        ({"cursor": "x" * 201}, "cursor"),
    ],
)
def test_bad_list_parameters(stack: Stack, parameters: dict[str, object], field: str) -> None:
    response = stack.http.get("/v1/generations", params=parameters)

    problem = _check(response, "invalid-request", 422)
    assert problem["errors"][0]["field"] == field  # type: ignore[index]


def test_refusal_of_the_store_is_final_and_says_so_without_paths(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)
    attempt = stack.store_folder / "generations" / generation_id / "1"
    shutil.rmtree(attempt)
    attempt.touch()

    response = stack.http.get(f"/v1/generations/{generation_id}/image")

    _check(response, "store-error", 500)
    assert response.headers["x-should-retry"] == "false"
    assert str(stack.store_folder) not in response.text


def test_unexpected_error_keeps_its_cause_inside(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.records.redis.delete(f"hidiffusion:generation:{generation_id}")
    stack.records.redis.set(f"hidiffusion:generation:{generation_id}", "{secret")

    response = stack.http.get(f"/v1/generations/{generation_id}")

    _check(response, "internal", 500)
    assert response.headers["x-should-retry"] == "false"
    assert "secret" not in response.text


def test_sane_request_id_is_kept_and_another_replaced(stack: Stack) -> None:
    kept = stack.http.get("/v2", headers={"x-request-id": "trace-7.a:b"})
    replaced = stack.http.get("/v2", headers={"x-request-id": "two words"})

    assert kept.headers["x-request-id"] == kept.json()["request_id"] == "trace-7.a:b"
    assert replaced.headers["x-request-id"] != "two words"
    assert len(replaced.headers["x-request-id"]) == 26


@pytest.mark.parametrize("kind", PROBLEM_TYPES, ids=lambda kind: kind.slug)
def test_type_is_the_address_of_its_explanation(stack: Stack, kind: ProblemType) -> None:
    served = stack.http.get(kind.uri)

    assert served.status_code == 200
    assert kind.title in served.text
    assert f"`{kind.uri}`" in DOCUMENTATION.read_text(encoding="utf-8")


def test_unknown_problem_type_is_itself_a_problem(stack: Stack) -> None:
    _check(stack.http.get("/problems/none"), "not-found", 404)
