"""From untyped fields to a `GenerationRequest`, for every front end alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.request import GenerationRequest

MAX_KEY_CHARACTERS = 255

#: Where a front end found a field; its name alone tells a client enough.
_LOCATIONS = {"body", "query", "path", "header"}

#: What pydantic adds where the name of an entry is wrong and not its value.
_KEY = "[key]"


def parse_request(fields: Mapping[str, Any]) -> GenerationRequest:
    """Read a request from decoded JSON or protobuf fields.

    Raises:
        InvalidRequest: naming every field that is unknown, of the wrong type or out of range.
    """
    try:
        return GenerationRequest.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest(violations_of(error.errors())) from None


def parse_idempotency_key(text: str, field: str) -> str:
    """Check a client's idempotency key.

    Raises:
        InvalidRequest: naming `field`, when the key is empty, too long or not printable ASCII.
    """
    if 1 <= len(text) <= MAX_KEY_CHARACTERS and text.isascii() and text.isprintable():
        return text
    rule = f"1 to {MAX_KEY_CHARACTERS} printable ASCII characters are allowed"
    raise InvalidRequest([FieldViolation(field, _shorten(text), rule)])


def violations_of(
    errors: list[Any], model: type[BaseModel] = GenerationRequest
) -> list[FieldViolation]:
    """Turn pydantic's error list into field violations; `model` is what was to be read."""
    return [
        FieldViolation(
            field=_field(error["loc"]),
            value="nothing" if error["type"] == "missing" else _shorten(error.get("input")),
            description=_describe(error, model),
        )
        for error in errors
    ]


def _field(location: Sequence[str | int]) -> str:
    names = location[1:] if location and location[0] in _LOCATIONS else location
    return ".".join(str(part) for part in names if part != _KEY) or "body"


def _describe(error: Mapping[str, Any], model: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        allowed = ", ".join(model.model_fields)
        return f"this field is unknown; known fields are {allowed}"
    message = str(error["msg"])
    return message[:1].lower() + message[1:]


def _shorten(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
