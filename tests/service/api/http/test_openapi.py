"""The OpenAPI document tells the truth about every route."""

import json
import re
from pathlib import Path
from typing import Any

from service.domain.webhooks import WEBHOOK_EVENTS
from tests.service.api.http.images.test_images import working
from tests.service.api.http.pictures.test_uploads import picture
from tests.service.api.stack import Stack


def _document(stack: Stack) -> dict[str, Any]:
    document: dict[str, Any] = stack.http.get("/openapi.json").json()
    return document


def test_every_reference_is_defined(stack: Stack) -> None:
    document = _document(stack)

    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))
    names = {reference.removeprefix("#/components/schemas/") for reference in references}

    assert names <= set(document["components"]["schemas"])
    assert {"Problem", "Violation", "GenerationView", "GenerationRequest"} <= names


def test_every_error_is_documented_as_a_problem(stack: Stack) -> None:
    for path, methods in _document(stack)["paths"].items():
        openai = path.startswith("/v1/images/")
        expected = "application/json" if openai else "application/problem+json"
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == [expected], path


def test_operations_are_named_for_clients(stack: Stack) -> None:
    names = {
        operation["operationId"]
        for methods in _document(stack)["paths"].values()
        for operation in methods.values()
    }

    assert {"create_generation", "stream_events", "get_tile", "list_models"} <= names


def test_answers_link_to_what_takes_their_id(stack: Stack) -> None:
    paths = _document(stack)["paths"]
    made = stack.http.post("/v1/uploads", content=picture())

    uploads = paths["/v1/uploads"]["post"]["responses"]["201"]["links"]
    generations = paths["/v1/generations"]["post"]["responses"]["202"]["links"]

    assert set(uploads) == {"get_upload", "get_upload_image", "delete_upload"}
    assert {"get_generation", "cancel_generation", "stream_events", "get_image"} <= set(generations)
    assert uploads["get_upload"]["parameters"] == {"path.upload_id": "$response.body#/id"}
    assert stack.http.get(f"/v1/uploads/{made.json()['id']}").status_code == 200


def test_examples_of_requests_are_accepted(stack: Stack) -> None:
    schema = _document(stack)["components"]["schemas"]["GenerationRequest"]

    for example in schema["examples"]:
        response = stack.http.post("/v1/generations", json=example | {"model": "emoji"})
        assert response.status_code == 202, response.text


def test_every_route_is_in_the_documentation(stack: Stack) -> None:
    text = (Path(__file__).parents[4] / "docs" / "api" / "http.md").read_text(encoding="utf-8")

    for path, methods in _document(stack)["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}`" in text


def test_what_may_be_left_out_is_optional_for_generators_too(stack: Stack) -> None:
    schemas = _document(stack)["components"]["schemas"]

    for name in ("GenerationRequest", "BatchRequest", "ImageRequest", "LoraChoice", "Webhook"):
        fields = schemas[name]["properties"]
        assert [field for field, schema in fields.items() if "default" in schema] == []
    assert schemas["GenerationRequest"]["required"] == ["prompt"]
    created = _document(stack)["paths"]["/v1/generations"]["post"]["responses"]["200"]
    assert list(created["content"]) == ["application/json"]  # two types make a union of each answer
    told = schemas["GenerationRequest"]["properties"]["output_format"]["description"]
    assert told.endswith('Default: "png".')


def test_webhooks_are_described_with_what_they_hold(stack: Stack) -> None:
    document = _document(stack)

    assert set(document["webhooks"]) == set(WEBHOOK_EVENTS)
    for hook in document["webhooks"].values():
        schema = hook["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/WebhookPayload"}
        headers = {each["name"] for each in hook["post"]["parameters"]}
        assert headers == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert not any("webhook" in path for path in document["paths"])


def test_events_of_pictures_are_as_the_document_has_them(stack: Stack) -> None:
    document = _document(stack)
    answer = document["paths"]["/v1/images/generations"]["post"]["responses"]["200"]
    event = answer["content"]["text/event-stream"]["itemSchema"]["properties"]
    required = [
        set(document["components"]["schemas"][each["$ref"].rpartition("/")[2]]["required"])
        for each in event["data"]["contentSchema"]["anyOf"]
    ]

    def fail(generation_id: str) -> None:
        stack.worker.fail(stack.worker.start(generation_id))

    names = []
    for work in (stack.worker.run, fail):
        with working(stack, work):
            body = {"prompt": "a fox", "stream": True}
            text = stack.http.post("/v1/images/generations", json=body).text
        fields = dict(line.split(": ", 1) for line in text.splitlines() if line)
        names.append(fields["event"])
        assert [rule for rule in required if rule <= json.loads(fields["data"]).keys()]
    assert names == ["image_generation.completed", "error"]
    assert set(names) <= set(event["event"]["enum"])
