"""What people write who come from elsewhere is understood, or refused by a sentence that helps."""

from functools import partial
from typing import Any

import grpc
import pytest

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from tests.service.api.played_worker import IMAGE
from tests.service.api.stack import Stack


def _accepted(stack: Stack, **fields: Any) -> dict[str, Any]:
    response = stack.http.post("/v1/generations", json={"prompt": "a fox", **fields})
    assert response.status_code == 202, response.text
    request: dict[str, Any] = response.json()["request"]
    return request


def _refused(stack: Stack, **fields: Any) -> dict[str, str]:
    response = stack.http.post("/v1/generations", json={"prompt": "a fox", **fields})
    assert response.status_code == 422, response.text
    return {each["field"]: each["description"] for each in response.json()["errors"]}


def test_the_common_name_is_accepted_where_its_meaning_is_plain(stack: Stack) -> None:
    request = _accepted(
        stack, seed=-1, scheduler="euler", loras=["ink"], aspect_ratio="2:1", width=512
    )

    assert request["seed"] >= 0
    assert request["scheduler"] == "EulerDiscreteScheduler"
    assert request["loras"] == [{"name": "ink", "weight": 1.0}]
    assert (request["width"], request["height"]) == (512, 256)
    default = _accepted(stack, aspect_ratio="4:1")
    assert (default["width"], default["height"]) == (1024, 256)  # as many pixels as 512 x 512


def test_a1111s_weights_and_loras_are_understood(stack: Stack) -> None:
    request = _accepted(stack, prompt="a (red:1.3) fox, ((soft:1.2) light:0.9) <lora:ink:0.8>")

    assert request["prompt"] == "a (red)1.3 fox, ((soft)1.2 light)0.9"
    assert request["prompt_weighting"] is True
    assert request["loras"] == [{"name": "ink", "weight": 0.8}]
    assert "loras.0.name" in _refused(stack, prompt="a fox <lora:nobody:1>")
    assert _accepted(stack, prompt="a fox (red)")["prompt_weighting"] is False


@pytest.mark.parametrize(
    ("field", "advice"),
    [
        ("steps", "did you mean num_inference_steps?"),
        ("cfg_scale", "did you mean guidance_scale?"),
        ("size", "did you mean width and height?"),
        ("negativePrompt", "did you mean negative_prompt?"),
        ("promt_weighting", "did you mean prompt_weighting?"),
        ("use_karras_sigmas", "write it into scheduler: DPMSolverMultistepScheduler+karras"),
        ("num_images", "POST to /v1/generations/batch"),
    ],
)
def test_other_names_are_refused_with_what_was_meant(stack: Stack, field: str, advice: str) -> None:
    assert advice in _refused(stack, **{field: 1})[field]


def test_who_asks_for_a_preprocessor_is_told_that_maps_come_ready(stack: Stack) -> None:
    control = {"name": "canny", "image": "img_1", "preprocessor": "canny"}
    refused = _refused(stack, controls=[control])
    assert "maps come ready: the service draws no edges" in refused["controls.0.preprocessor"]


def test_all_broken_rules_come_in_one_answer(stack: Stack) -> None:
    wrong = {"steps": 20, "guidance_scale": "high", "width": 100, "method": "magic"}

    over_http = _refused(stack, **wrong)
    request = rpc.CreateGenerationRequest(prompt="", width=100, method="magic")
    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.CreateGeneration(request)

    assert over_http.keys() == wrong.keys()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = str(caught.value.trailing_metadata())
    assert all(name in details for name in ("prompt", "width", "method"))


def test_a_query_parameter_that_is_unknown_is_refused(stack: Stack) -> None:
    response = stack.http.get("/v1/generations", params={"limits": 5})

    assert response.status_code == 422
    (violation,) = response.json()["errors"]
    assert violation["field"] == "limits"
    assert "did you mean limit?" in violation["description"]


def test_the_picture_itself_is_answered_to_whom_it_is_asked(stack: Stack) -> None:
    headers = {"prefer": "wait=2", "accept": "image/png", "idempotency-key": "one-picture"}
    ask = partial(stack.http.post, "/v1/generations", json={"prompt": "a fox"})
    stack.worker.run(ask(headers={"idempotency-key": "one-picture"}).json()["id"])

    picture = ask(headers=headers)
    record = ask(headers=headers | {"accept": "*/*"})
    waiting = ask(headers={"prefer": "wait=1", "accept": "image/webp"})

    assert picture.status_code == 200
    assert picture.headers["content-type"] == "image/png"
    assert picture.content == IMAGE
    assert picture.headers["location"] == f"/v1/generations/{record.json()['id']}"
    assert waiting.status_code == 202  # nobody draws it
    assert waiting.json()["request"]["output_format"] == "webp"
