"""From untyped fields to a `GenerationRequest`, for every front end alike."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.requests.field_names import did_you_mean
from service.domain.requests.request import GenerationRequest

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


def what_can_be_read(fields: Mapping[str, Any]) -> GenerationRequest | None:
    """The request that is left of one without what cannot be read; None where nothing is.

    A prompt that is missing is put in, so that the rest can be held against the catalogue.
    """
    left = {name: fields[name] for name in fields.keys() & GenerationRequest.model_fields.keys()}
    for _ in range(2):
        try:
            return GenerationRequest.model_validate(left)
        except ValidationError as error:
            for each in error.errors():
                left.pop(str(each["loc"][0]), None)
            left.setdefault("prompt", "a prompt")
    return None


def parse_idempotency_key(text: str, field: str) -> str:
    """Check a client's idempotency key.

    Raises:
        InvalidRequest: naming `field`, when the key is empty, too long or not printable ASCII.
    """
    if 1 <= len(text) <= MAX_KEY_CHARACTERS and text.isascii() and text.isprintable():
        return text
    rule = f"1 to {MAX_KEY_CHARACTERS} printable ASCII characters are allowed"
    raise InvalidRequest([FieldViolation(field, shortened(text), rule)])


def violations_of(
    errors: list[Any], model: type[BaseModel] = GenerationRequest
) -> list[FieldViolation]:
    """Turn pydantic's error list into field violations; `model` is what was to be read."""
    return [
        FieldViolation(
            field=_field(error["loc"]),
            value="nothing" if error["type"] == "missing" else shortened(error.get("input")),
            description=_describe(error, model),
        )
        for error in errors
    ]


def _field(location: Sequence[str | int]) -> str:
    names = location[1:] if location and location[0] in _LOCATIONS else location
    return ".".join(str(part) for part in names if part != _KEY) or "body"


def _describe(error: Mapping[str, Any], model: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        known = _read_at(error["loc"], model).model_fields
        advice, allowed = did_you_mean(str(error["loc"][-1]), known), ", ".join(known)
        return f"this field is unknown{'; ' + advice if advice else ''}; known fields are {allowed}"
    message = str(error["msg"])
    return message[:1].lower() + message[1:]


def _read_at(location: Sequence[str | int], model: type[BaseModel]) -> type[BaseModel]:
    """The model that the place of an error lies in: `model`, or one of its fields'."""
    for name in location:
        field = model.model_fields.get(str(name))
        inside = [*_models_in(field.annotation)] if field else []
        named = [each for each in inside if each.__name__ in location]
        (model, *_) = [*named, *inside, model]
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def shortened(value: object, limit: int = 80) -> str:
    """A value as messages show it."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
