"""One table of bad requests, sent through both front ends: the same fields are named by both."""

import json
from functools import reduce
from operator import getitem
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from tests.service.api.stack import Stack

GOOD = {"prompt": "a red guitar"}

#: What is wrong, the field at fault, and what the answer must say is allowed.
BAD = [
    ({"width": 513}, "width", "multiples of 8"),
    ({"width": 120}, "width", "from 128 to 4096"),
    ({"width": 4104}, "width", "from 128 to 4096"),
    ({"height": 0}, "height", "from 128 to 4096"),
    ({"height": -512}, "height", "from 128 to 4096"),
    ({"model": "imagined"}, "model", "allowed are emoji"),
    ({"scheduler": "CronScheduler"}, "scheduler", "DDIMScheduler, EulerDiscreteScheduler"),
    ({"method": "magic"}, "method", "hidiffusion, hidiffusion-guided, hidiffusion-refresh, direct"),
    ({"num_inference_steps": 0}, "num_inference_steps", "greater than or equal to 1"),
    ({"num_inference_steps": 151}, "num_inference_steps", "less than or equal to 150"),
    ({"guidance_scale": -0.1}, "guidance_scale", "greater than or equal to 0"),
    ({"guidance_scale": 50.5}, "guidance_scale", "less than or equal to 50"),
    ({"prompt": ""}, "prompt", ""),
    ({"prompt": "x" * 4001}, "prompt", "at most 4000 characters"),
    ({"negative_prompt": "x" * 4001}, "negative_prompt", "at most 4000 characters"),
    ({"seed": -2}, "seed", "greater than or equal to -1"),
    ({"seed": 2**53}, "seed", "less than or equal to 9007199254740991"),
    ({"bit_depth": 10}, "bit_depth", "png holds 8 or 16 bits"),
    ({"quality": 90}, "quality", "png is lossless"),
    ({"quality": 101}, "quality", "less than or equal to 100"),
    ({"timeout_seconds": 0}, "timeout_seconds", "greater than or equal to 1"),
    ({"client_metadata": {"name": "x" * 501}}, "client_metadata.name", "at most 500"),
    ({"client_metadata": {str(n): "" for n in range(17)}}, "client_metadata", "at most 16"),
    ({"expires_in_seconds": 0}, "expires_in_seconds", "greater than or equal to 1"),
    ({"webhook": {"url": "https://10.0.0.1/"}}, "webhook.url", "only public addresses"),
    ({"webhook": {"url": "http://example.com/"}}, "webhook.url", "only https"),
    ({"webhook": {"url": "https://a:b@example.com/"}}, "webhook.url", "user name or password"),
    ({"webhook": {"url": "example.com"}}, "webhook.url", "https://example.com/hooks"),
    ({"method_options": {"t9": 1}}, "method_options.t9", "no such option; its options: t1_ratio"),
    ({"method_options": {"t1_ratio": 7}}, "method_options.t1_ratio", "a number from 0 to 1"),
    ({"method_options": {"window_grid": "big"}}, "method_options.window_grid", "one of native"),
    ({"method": "direct", "method_options": {"seed": 1}}, "method_options.seed", "options: none"),
]

#: What only JSON can say.
BAD_JSON = [
    ({"width": "512"}, "width", "valid integer"),
    ({"width": 512.5}, "width", "valid integer"),
    ({"seed": True}, "seed", "valid integer"),
    ({"prompt": None}, "prompt", "valid string"),
    ({"prompt": ["a", "b"]}, "prompt", "valid string"),
    ({"output_format": "tiff"}, "output_format", "'png', 'webp', 'jpeg' or 'avif'"),
    ({"priority": "urgent"}, "priority", "'high', 'normal' or 'low'"),
    ({"client_metadata": {"order": 7}}, "client_metadata.order", "valid string"),
    ({"method_options": [1]}, "method_options", "valid dictionary"),
    ({"steps": 20}, "steps", "known fields are prompt"),
    ({"upscale": {"model": "x", "size": 2}}, "upscale.size", "known fields are model, scale"),
    ({"webhook": {"url": "https://a.test", "evens": []}}, "webhook.evens", "did you mean events"),
    ({"prompt": "\ud800"}, "prompt", "valid"),
]


def _ids(rows: list[tuple[dict[str, Any], str, str]]) -> list[str]:
    return [f"{field}={str(bad.get(field, bad))[-14:]}" for bad, field, _ in rows]


@pytest.mark.parametrize(("bad", "field", "allowed"), BAD, ids=_ids(BAD))
def test_http_names_field_value_and_rule(
    stack: Stack, bad: dict[str, Any], field: str, allowed: str
) -> None:
    _check_http(stack, GOOD | bad, field, allowed)


@pytest.mark.parametrize(("bad", "field", "allowed"), BAD_JSON, ids=_ids(BAD_JSON))
def test_json_of_the_wrong_shape_is_refused(
    stack: Stack, bad: dict[str, Any], field: str, allowed: str
) -> None:
    _check_http(stack, GOOD | bad, field, allowed)


def test_the_name_of_an_entry_is_checked_too(stack: Stack) -> None:
    name = "n" * 65
    response = stack.http.post("/v1/generations", json=GOOD | {"client_metadata": {name: "x"}})
    (violation,) = response.json()["errors"]
    assert violation["field"] == f"client_metadata.{name}"
    assert violation["value"] == repr(name)
    assert "at most 64" in violation["description"]


def _check_http(stack: Stack, body: dict[str, Any], field: str, allowed: str) -> None:
    # Escaped, so that half a surrogate pair can be sent at all.
    response = stack.http.post(
        "/v1/generations",
        content=json.dumps(body, ensure_ascii=True).encode(),
        headers={"content-type": "application/json"},
    )

    assert response.status_code == 422
    problem = response.json()
    assert problem["type"] == "/problems/invalid-request"
    (violation,) = problem["errors"]
    assert violation["field"] == field
    value = reduce(getitem, field.split("."), body)
    assert violation["value"].startswith(repr(value)[:40])
    assert allowed in violation["description"]
    assert stack.count() == 0


@pytest.mark.parametrize(("bad", "field", "allowed"), BAD, ids=_ids(BAD))
def test_grpc_names_field_value_and_rule(
    stack: Stack, bad: dict[str, Any], field: str, allowed: str
) -> None:
    error = _refused(stack, rpc.CreateGenerationRequest(**GOOD | bad))

    assert _reason(error) == "INVALID_REQUEST"
    (violation,) = _violations(error)
    assert violation.field == field
    assert allowed in violation.description
    assert stack.count() == 0


def test_numbers_that_are_none_are_refused(stack: Stack) -> None:
    response = stack.http.post(
        "/v1/generations",
        content=b'{"prompt": "x", "guidance_scale": NaN}',
        headers={"content-type": "application/json"},
    )
    request = rpc.CreateGenerationRequest(prompt="x", guidance_scale=float("inf"))

    assert response.json()["errors"][0]["field"] == "guidance_scale"
    assert _violations(_refused(stack, request))[0].field == "guidance_scale"
    assert stack.count() == 0


def test_every_offending_field_is_named_at_once(stack: Stack) -> None:
    bad = {"prompt": "x", "width": 100, "height": 9999, "method": "magic"}

    response = stack.http.post("/v1/generations", json=bad)
    error = _refused(stack, rpc.CreateGenerationRequest(**bad))

    fields = ["width", "height", "method"]
    assert [violation["field"] for violation in response.json()["errors"]] == fields
    assert [violation.field for violation in _violations(error)] == fields


@pytest.mark.parametrize("body", [[], "prompt", 7, None])
def test_body_that_is_no_object_is_refused(stack: Stack, body: object) -> None:
    response = stack.http.post("/v1/generations", json=body)

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "body"


def test_grpc_field_of_a_later_version_is_refused(stack: Stack) -> None:
    unknown = rpc.CreateGenerationRequest.FromString(
        rpc.CreateGenerationRequest(prompt="x").SerializeToString() + b"\xf8\x07\x01"
    )

    error = _refused(stack, unknown)

    (violation,) = _violations(error)
    assert violation.field == "field number 127"
    assert "known fields are prompt" in violation.description
    assert stack.count() == 0


def test_grpc_enumeration_value_of_a_later_version_is_refused(stack: Stack) -> None:
    error = _refused(stack, rpc.CreateGenerationRequest(prompt="x", output_format=99))  # type: ignore[arg-type]

    (violation,) = _violations(error)
    assert violation.field == "output_format"
    assert "'99'" in violation.description


def test_grpc_request_too_large_is_refused(stack: Stack) -> None:
    request = rpc.CreateGenerationRequest(prompt="x", negative_prompt="x" * 100_000)

    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.CreateGeneration(request, timeout=5)

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stack.count() == 0


def _refused(stack: Stack, request: rpc.CreateGenerationRequest) -> Status:
    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.CreateGeneration(request, timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(caught.value)
    assert status is not None
    return status


def _violations(status: Status) -> list[BadRequest.FieldViolation]:
    found = BadRequest()
    assert any(detail.Unpack(found) for detail in status.details)
    return list(found.field_violations)


def _reason(status: Status) -> str:
    info = ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert info.domain == "hidiffusion"
    reason: str = info.reason
    return reason


def test_a_lone_surrogate_is_refused_wherever_it_stands(stack: Stack) -> None:
    for body in (
        b'{"prompt": "a", "method_options": {"\\ud800": 1}}',
        b'{"prompt": "a", "\\ud800": 1}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "a", "client_metadata": {"\\udfff": "x"}}',
    ):
        headers = {"content-type": "application/json"}
        answer = stack.http.post("/v1/generations", content=body, headers=headers)
        assert answer.status_code == 422, body
        assert answer.json()["errors"]


def test_a_long_body_is_told_where_pictures_go(stack: Stack) -> None:
    answer = stack.http.post("/v1/generations", json={"prompt": "a", "image": "x" * 70_000})
    assert answer.status_code == 413
    assert "/v1/uploads" in answer.json()["detail"]


@pytest.mark.parametrize("field", ["loras", "controls"])
def test_grpc_refuses_unknown_fields_inside_lists_too(stack: Stack, field: str) -> None:
    request = rpc.CreateGenerationRequest(prompt="a fox")
    getattr(request, field).add().MergeFromString(b"\xa2\x06\x01x")  # field 100
    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.CreateGeneration(request, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "field number 100" in caught.value.details()
