"""A generation as the flat fields of a Redis hash, and back. Absent fields are None."""

import json
from collections.abc import Mapping

from service.domain.events import Event, Failed, Queued, Succeeded, progress_after, status_after
from service.domain.generation import Generation
from service.records.keys import queue_of

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
    "timeout_seconds",
    "expires_in_seconds",
    "attempt",
    "created_at",
    "started_at",
    "finished_at",
)


def to_fields(generation: Generation) -> dict[str, str]:
    """The hash fields of a record; `queue` is for the scripts: which one it waits in."""
    document = generation.model_dump(mode="json", exclude_none=True)
    fields = {name: str(document[name]) for name in (*_TEXT, *_PLAIN) if name in document}
    fields |= {name: compact(document[name]) for name in _JSON if document.get(name)}
    fields["cancel_requested"] = str(int(generation.cancel_requested))
    return {**fields, "queue": queue_of(generation)}


def from_fields(fields: Mapping[str, str]) -> Generation:
    """The record in `fields`; fields that only the queue needs are passed over."""
    document: dict[str, object] = {
        name: fields[name] for name in (*_TEXT, *_PLAIN) if name in fields
    }
    document |= {name: json.loads(fields[name]) for name in _JSON if name in fields}
    document["cancel_requested"] = fields["cancel_requested"] == "1"
    return Generation.model_validate(document)


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
