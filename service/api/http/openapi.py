"""The OpenAPI document: the schemas that FastAPI does not find by itself."""

import json
import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.http.errors import image_errors
from service.api.http.errors.problems import PROBLEM_TYPES, Problem
from service.api.http.views.image_schemas import ImageEvent

#: Where the document has the schema of a model.
REFERENCE = "#/components/schemas/{model}"
_REFERENCE = {"$ref": REFERENCE.format(model="Problem")}
_IMAGE_REFERENCE = {"$ref": REFERENCE.format(model="ImageError")}
_NAME = re.compile(r"#/components/schemas/(\w+)")
_VALIDATION_ERROR = "HTTPValidationError"
_DEFAULT_SCHEMAS = (_VALIDATION_ERROR, "ValidationError")


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: which problems it may answer with."""
    return {status: _response(status) for status in statuses}


def install_openapi(app: FastAPI) -> None:
    """Let `app.openapi()` describe problem documents in place of FastAPI's own error schema."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                webhooks=app.webhooks.routes,
                tags=app.openapi_tags,
                license_info=app.license_info,
            )
            app.openapi_schema = _with_problems(document)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _response(status: int) -> dict[str, Any]:
    kinds = [kind for kind in PROBLEM_TYPES if kind.status == status]
    description = "; ".join(f"{kind.title} (`{kind.uri}`)" for kind in kinds)
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": _REFERENCE}},
    }


def _add_access(operation: dict[str, Any], path: str, *, changing: bool) -> None:
    """What a route answers where the service asks for keys; elsewhere it needs none."""
    operation["security"].append({})
    refusals = problem_responses(401, 403, *([429] if changing else []))
    if path.startswith(image_errors.PREFIX):
        for refusal in refusals.values():
            refusal["content"] = {"application/json": {"schema": _IMAGE_REFERENCE}}
    operation["responses"] |= {str(status): refusal for status, refusal in refusals.items()}


def _describe_events(operation: dict[str, Any]) -> None:
    """Say of a stream what the data of its events are; FastAPI describes the events alone."""
    for response in operation["responses"].values():
        stream = response.get("content", {}).get("text/event-stream", {})
        if "itemSchema" in stream and "schema" in stream:
            data = stream["itemSchema"]["properties"]["data"]
            data |= {"contentMediaType": "application/json", "contentSchema": stream.pop("schema")}


def _make_defaults_optional(document: dict[str, Any]) -> None:
    """Tell the defaults of what clients send in words.

    By the keyword `default` generators take a field for one that is always there, and have clients
    send it: openapi-typescript refuses `{prompt: "a frog"}`.
    """
    schemas = document["components"]["schemas"]
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    left = [str(each.get("requestBody")) for each in operations]
    seen: set[str] = set()
    while left:
        for name in set(_NAME.findall(left.pop())) - seen:
            seen.add(name)
            left.append(str(schemas[name]))
            for field in schemas[name].get("properties", {}).values():
                if "default" in field:
                    default = json.dumps(field.pop("default"), ensure_ascii=False)
                    field["description"] = (
                        f"{field.get('description', '')} Default: {default}.".strip()
                    )


def _add_links(document: dict[str, Any]) -> None:
    """Say which operations take the id that an answer to a request holds, and nothing else."""
    made_by = {"generation_id": "create_generation", "upload_id": "create_upload"}
    operations = [
        (path, operation)
        for path, methods in document["paths"].items()
        for operation in methods.values()
    ]
    for name, maker in made_by.items():
        links = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {f"path.{name}": "$response.body#/id"},
            }
            for path, operation in operations
            if re.findall(r"{(\w+)}", path) == [name]
        }
        (making,) = [each for _, each in operations if each["operationId"] == maker]
        for status, response in making["responses"].items():
            if int(status) < 300:
                response["links"] = links


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document["components"]["schemas"]
    for name in _DEFAULT_SCHEMAS:
        schemas.pop(name, None)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _describe_events(operation)
            if _VALIDATION_ERROR in str(operation["responses"].get("422")):
                del operation["responses"]["422"]  # this route answers broken rules another way
            if "security" in operation:
                _add_access(operation, path, changing=method not in {"get", "head"})
    for model in (Problem, ImageEvent):
        schema = model.model_json_schema(ref_template=REFERENCE)
        schemas.update(schema.pop("$defs"))
        schemas[model.__name__] = schema
    _make_defaults_optional(document)
    _add_links(document)
    return document
