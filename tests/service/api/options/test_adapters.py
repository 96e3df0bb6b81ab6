"""LoRAs and weighted prompts in requests, the same through both interfaces."""

from typing import Any

import grpc
import pytest

from hidiffusion_api.v1 import generation_pb2 as pb
from hidiffusion_api.v1 import generation_service_pb2 as rpc
from tests.service.api.stack import Stack, violations_of

BAD: list[tuple[list[dict[str, Any]], str, str]] = [
    ([{"name": "chalk"}], "loras.0.name", "allowed are ink, oil"),
    ([{"name": "ink"}, {"name": "ink", "weight": 0.5}], "loras", "named twice"),
    ([{"name": "ink", "weight": 5}], "loras.0.weight", "less than or equal to 4"),
    ([{"name": "ink"}] * 9, "loras", "at most 8"),
]


def test_what_was_asked_for_is_what_is_drawn(stack: Stack) -> None:
    loras = [{"name": "ink"}, {"name": "oil", "weight": -0.5}]
    body = {"prompt": "a (fox)1.3", "prompt_weighting": True, "loras": loras}
    over_http = stack.http.post("/v1/generations", json=body).json()["request"]
    sent = rpc.CreateGenerationRequest(
        prompt="a (fox)1.3",
        prompt_weighting=True,
        loras=[pb.LoraChoice(name="ink"), pb.LoraChoice(name="oil", weight=-0.5)],
    )
    over_grpc = stack.stub.CreateGeneration(sent).generation.request

    assert over_http["loras"] == [{"name": "ink", "weight": 1.0}, {"name": "oil", "weight": -0.5}]
    assert over_http["prompt_weighting"] is True
    assert [(lora.name, lora.weight) for lora in over_grpc.loras] == [("ink", 1.0), ("oil", -0.5)]
    assert over_grpc.prompt_weighting


@pytest.mark.parametrize(("loras", "field", "rule"), BAD)
def test_what_the_model_does_not_have_is_refused(
    stack: Stack, loras: list[dict[str, Any]], field: str, rule: str
) -> None:
    response = stack.http.post("/v1/generations", json={"prompt": "a fox", "loras": loras})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["field"] == field
    assert rule in error["description"]

    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.CreateGeneration(
            rpc.CreateGenerationRequest(
                prompt="a fox", loras=[pb.LoraChoice(**lora) for lora in loras]
            )
        )
    assert [violation.field for violation in violations_of(caught.value)] == [field]
    assert stack.count() == 0


def test_models_say_what_can_be_named_and_not_where_it_lies(stack: Stack) -> None:
    response = stack.http.get("/v1/models")
    (model,) = response.json()["models"]
    assert model["loras"] == [{"name": "ink", "title": "Ink"}, {"name": "oil", "title": "Oil"}]
    assert model["embeddings"] == [{"token": "<w>", "title": "A word"}]
    assert model["prompt_weighting"] is True
    assert "inside" not in response.text

    (message,) = stack.stub.ListModels(rpc.ListModelsRequest()).models
    assert [(lora.name, lora.title) for lora in message.loras] == [("ink", "Ink"), ("oil", "Oil")]
    assert [(word.token, word.title) for word in message.embeddings] == [("<w>", "A word")]
    assert message.prompt_weighting
    assert "inside" not in str(message)
