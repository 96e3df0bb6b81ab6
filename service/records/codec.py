"""A generation as the flat fields of a Redis hash, and back. Absent fields are None.

Reading is strict about meaning and lenient about presence. What is absent has its default; fields
of the hash that are unknown belong to the queue; but a request with a field or a value that this
version does not know would draw another picture, and so would a record whose schema is newer.
"""

import json
from collections.abc import Mapping

from pydantic import ValidationError

from service.domain.errors import RecordUnreadable
from service.domain.generations.events import (
    Event,
    Failed,
    Queued,
    Succeeded,
    progress_after,
    status_after,
)
from service.domain.generations.generation import Generation
from service.domain.models.methods import (
    METHODS,
    option_violations,
    resolved_options,
    unusual_options,
)
from service.domain.requests.request import RECORD_SCHEMA, ResolvedRequest
from service.records.keys import queue_of
from service.records.queue.lines import line_fields

_TEXT = ("id", "tenant", "status")
_JSON = (
    "request",
    "inputs",
    "progress",
    "result",
    "error",
    "client_metadata",
    "webhook",
    "trace_context",
)
_PLAIN = (
    "priority",
    "weight",
    "timeout_seconds",
    "expires_in_seconds",
    "attempt",
    "created_at",
    "started_at",
    "finished_at",
)


def to_fields(generation: Generation) -> dict[str, str]:
    """The hash fields of a record, and those that the scripts need: where and when it waits."""
    document = generation.model_dump(mode="json", exclude_none=True)
    fields = {name: str(document[name]) for name in (*_TEXT, *_PLAIN) if name in document}
    document["request"] = _without_defaults(generation.request)
    fields |= {name: compact(document[name]) for name in _JSON if document.get(name)}
    fields["cancel_requested"] = str(int(generation.cancel_requested))
    ours = {"queue": queue_of(generation), **line_fields(generation)}
    if generation.inputs:
        ours["input_keys"] = " ".join(sorted({*generation.inputs.values()}))
    return {"schema": str(RECORD_SCHEMA), **fields, **ours}


def from_fields(fields: Mapping[str, str]) -> Generation:
    """The record in `fields`; fields that only the queue needs are passed over.

    Raises:
        RecordUnreadable: another version wrote it, in a way that this one cannot read.
    """
    document: dict[str, object] = {
        name: fields[name] for name in (*_TEXT, *_PLAIN) if name in fields
    }
    document["cancel_requested"] = fields.get("cancel_requested") == "1"
    try:
        _check_schema(fields.get("schema"))
        document |= {name: json.loads(fields[name]) for name in _JSON if name in fields}
        generation = Generation.model_validate(document)
        return generation.model_copy(update={"request": _with_defaults(generation.request)})
    except ValueError as error:
        identity = fields.get("id", ""), fields.get("tenant", "")
        raise RecordUnreadable(*identity, _cause(error)) from None


def _without_defaults(request: ResolvedRequest) -> dict[str, object]:
    """A method's options are as the fields are: one at its default is not written."""
    options = unusual_options(METHODS[request.method], request.method_options)
    short = request.model_copy(update={"method_options": options})
    return short.model_dump(mode="json", exclude_defaults=True)


def _with_defaults(request: ResolvedRequest) -> ResolvedRequest:
    """The request with every option of its method, as it was accepted.

    Raises:
        ValueError: this version does not know the method, or an option of it.
    """
    method = METHODS.get(request.method)
    if method is None:
        raise ValueError(f"request.method: {request.method!r} is not known")
    for wrong in option_violations(method, request.method_options):
        raise ValueError(f"request.{wrong.field}: {wrong.value}: {wrong.description}")
    options = resolved_options(method, request.method_options)
    return request.model_copy(update={"method_options": options})


def _check_schema(schema: str | None) -> None:
    """Return when this version can read `schema`; records of before there was one have none."""
    if schema is not None and not (schema.isdecimal() and int(schema) <= RECORD_SCHEMA):
        raise ValueError(f"its schema is {schema}, and the newest known is {RECORD_SCHEMA}")


def _cause(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}"[:300]


def changes(event: Event) -> dict[str, str]:
    """What `event` changes in a record besides its status."""
    fields = {}
    if (progress := progress_after(event)) is not None:
        fields["progress"] = progress.model_dump_json()
    match event:
        case Succeeded():
            fields["result"] = event.manifest.model_dump_json()
            fields["stored_bytes"] = str(event.manifest.stored_bytes)
        case Failed():
            fields["error"] = event.error.model_dump_json()
        case Queued():
            fields["worker"] = ""
    if status_after(event).final:
        fields["finished_at"] = event.model_dump(mode="json")["at"]
    return fields


def compact(document: object) -> str:
    """JSON without spaces."""
    return json.dumps(document, separators=(",", ":"))
