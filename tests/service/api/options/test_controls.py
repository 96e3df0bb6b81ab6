"""ControlNets in requests, the same through both interfaces."""

from typing import Any

import grpc
import pytest
import pyvips

from hidiffusion_api.v1 import generation_pb2 as pb
from hidiffusion_api.v1 import generation_service_pb2 as rpc
from service.domain.requests.request_examples import EXAMPLE_PICTURE
from tests.service.api.stack import Stack, violations_of

EDGES = {"name": "canny", "image": EXAMPLE_PICTURE}

BAD: list[tuple[list[dict[str, Any]], str, str]] = [
    ([{**EDGES, "name": "pose"}], "controls.0.name", "allowed are canny, depth"),
    ([EDGES, {**EDGES, "scale": 0.5}], "controls", "once"),
    ([{**EDGES, "scale": 5}], "controls.0.scale", "less than or equal to 4"),
    ([{**EDGES, "start": 0.5, "end": 0.5}], "controls.0.end", "more than start, 0.5"),
    ([{**EDGES, "image": "img_" + "0" * 64}], "controls.0.image", "no upload has this id"),
    (
        [{**EDGES, "image": "data:image/png;base64,AAAA"}],
        "controls.0.image",
        "begins like no picture",
    ),
    ([{"name": "canny"}], "controls.0.image", ""),
    ([EDGES] * 5, "controls", "at most 4"),
]


def test_pictures_that_guide_are_named_as_others_are(stack: Stack) -> None:
    tall = pyvips.Image.black(384, 192).write_to_buffer(".png")
    upload = stack.http.post("/v1/uploads", content=tall).json()["id"]
    controls = [{"name": "depth", "image": upload, "end": 0.5}, EDGES]
    body = {"prompt": "a fox", "controls": controls}
    over_http = stack.http.post("/v1/generations", json=body).json()
    sent = rpc.CreateGenerationRequest(
        prompt="a fox", controls=[pb.ControlChoice(**control) for control in controls]
    )
    over_grpc = stack.stub.CreateGeneration(sent).generation

    depth, edges = over_http["request"]["controls"]
    assert depth == {"name": "depth", "image": upload, "scale": 1, "start": 0, "end": 0.5}
    assert edges["image"].startswith("img_")
    assert (over_http["request"]["width"], over_http["request"]["height"]) == (384, 192)
    first, second = over_grpc.request.controls
    assert (first.name, first.image, first.scale, first.end) == ("depth", upload, 1, 0.5)
    assert second.image == edges["image"]
    for generation_id in (over_http["id"], over_grpc.id):
        inputs = stack.records.get(generation_id).inputs
        assert {*inputs} == {upload, edges["image"]}
        assert all(stack.store.get(key) for key in inputs.values())


@pytest.mark.parametrize(("controls", "field", "rule"), BAD)
def test_what_cannot_guide_is_refused(
    stack: Stack, controls: list[dict[str, Any]], field: str, rule: str
) -> None:
    response = stack.http.post("/v1/generations", json={"prompt": "a fox", "controls": controls})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["field"] == field
    assert rule in error["description"]

    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.CreateGeneration(
            rpc.CreateGenerationRequest(
                prompt="a fox", controls=[pb.ControlChoice(**control) for control in controls]
            )
        )
    assert [violation.field for violation in violations_of(caught.value)] == [field]
    assert stack.count() == 0


def test_models_say_what_can_guide_and_not_where_it_lies(stack: Stack) -> None:
    response = stack.http.get("/v1/models")
    (model,) = response.json()["models"]
    titles = {"canny": "Edges", "depth": "Depth"}
    assert model["controls"] == [{"name": n, "title": title} for n, title in titles.items()]
    assert "inside" not in response.text

    (message,) = stack.stub.ListModels(rpc.ListModelsRequest()).models
    assert {net.name: net.title for net in message.controls} == titles
    assert "inside" not in str(message)


def test_images_of_openai_s_interface_can_be_guided(stack: Stack) -> None:
    stack.add_worker()
    body = {"prompt": "a fox", "controls": [{**EDGES, "name": "pose"}]}
    response = stack.http.post("/v1/images/generations", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "controls.0.name"
