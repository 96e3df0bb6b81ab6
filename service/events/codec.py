"""Events as the flat fields of a Redis Stream entry, and back.

An entry has four fields: `type`, `attempt` and `at` in the open, so that a script can write and
compare them without parsing JSON, and `data` with the rest of the event as one JSON document.
"""

import json
import logging
from collections.abc import Mapping
from typing import get_args

from service.domain.generations.events import EVENT_ADAPTER, Event

_log = logging.getLogger(__name__)

_OPEN_FIELDS = ("type", "attempt", "at")
_UNION, _ = get_args(Event)
_KNOWN_TYPES = {kind.model_fields["type"].default for kind in get_args(_UNION)}

#: Types after which a stream holds nothing more.
FINAL_TYPES = frozenset({"succeeded", "failed", "cancelled"})


def encode(event: Event) -> dict[str, str]:
    """The stream fields of `event`."""
    document = event.model_dump(mode="json")
    fields = {name: str(document.pop(name)) for name in _OPEN_FIELDS}
    return {**fields, "data": json.dumps(document, separators=(",", ":"))}


def decode(fields: Mapping[str, str]) -> Event | None:
    """The event in `fields`, or None when it cannot be read: another version wrote it."""
    if fields["type"] not in _KNOWN_TYPES:
        return None
    try:
        document = {**json.loads(fields["data"]), **{name: fields[name] for name in _OPEN_FIELDS}}
        return EVENT_ADAPTER.validate_python(document)
    except ValueError as error:
        _log.warning("passing over an event %r that cannot be read: %s", fields["type"], error)
        return None
