"""Pictures as prompts in requests, the same through both interfaces."""

from typing import Any

import grpc
import pytest

from hidiffusion_api.v1 import generation_pb2 as pb
from hidiffusion_api.v1 import generation_service_pb2 as rpc
from service.domain.models.image_prompts import ImagePrompt, image_prompt_violations
from service.domain.requests.request_examples import EXAMPLE_PICTURE
from tests.service.api.stack import CATALOG, Stack, violations_of

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"image": EXAMPLE_PICTURE, "scale": 3}, "image_prompt.scale", "equal to 2"),
    ({"image": "img_1"}, "image_prompt.image", "no upload has this id"),
]


def test_what_was_asked_for_is_what_is_drawn(stack: Stack) -> None:
    prompt = {"image": EXAMPLE_PICTURE, "scale": 0.5}
    over_http = stack.http.post(
        "/v1/generations", json={"prompt": "a fox", "image_prompt": prompt}
    ).json()
    sent = rpc.CreateGenerationRequest(prompt="a fox", image_prompt=pb.ImagePrompt(**prompt))
    over_grpc = stack.stub.CreateGeneration(sent).generation

    shown, message = over_http["request"]["image_prompt"], over_grpc.request.image_prompt
    assert shown["image"].startswith("img_")
    assert (message.image, message.scale) == (shown["image"], shown["scale"])
    assert shown["scale"] == 0.5
    for generation_id in (over_http["id"], over_grpc.id):
        inputs = stack.records.get(generation_id).inputs
        assert [*inputs] == [shown["image"]]
        assert stack.store.get(inputs[shown["image"]])
    nothing = stack.stub.CreateGeneration(rpc.CreateGenerationRequest(prompt="a fox"))
    assert not nothing.generation.request.HasField("image_prompt")


@pytest.mark.parametrize(("prompt", "field", "rule"), BAD)
def test_what_cannot_be_a_prompt_is_refused(
    stack: Stack, prompt: dict[str, Any], field: str, rule: str
) -> None:
    body = {"prompt": "a fox", "image_prompt": prompt}
    response = stack.http.post("/v1/generations", json=body)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["field"] == field
    assert rule in error["description"]

    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.CreateGeneration(
            rpc.CreateGenerationRequest(prompt="a fox", image_prompt=pb.ImagePrompt(**prompt))
        )
    assert [violation.field for violation in violations_of(caught.value)] == [field]
    assert stack.count() == 0


def test_models_say_whether_they_take_one(stack: Stack) -> None:
    response = stack.http.get("/v1/models")
    (model,) = response.json()["models"]
    (message,) = stack.stub.ListModels(rpc.ListModelsRequest()).models
    assert model["image_prompt"] is message.image_prompt is True
    assert "inside" not in response.text + str(message)


def test_a_model_without_an_adapter_says_so() -> None:
    plain = CATALOG.default.model_copy(update={"ip_adapter": None})
    prompt = ImagePrompt(image="img_1")
    violations = list(image_prompt_violations(prompt, plain.name, plain.ip_adapter))
    assert [violation.field for violation in violations] == ["image_prompt"]
    assert "emoji takes no picture as a prompt" in violations[0].description
