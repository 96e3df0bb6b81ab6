"""Edits and variations of the OpenAI Images API: their forms, read field by field."""

import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from fastapi import Request
from pydantic import Field, ValidationError
from starlette.datastructures import FormData, UploadFile

from service.api.http.edge.forms import is_form, read_form
from service.api.http.openapi import REFERENCE
from service.api.http.views.image_schemas import EventName, ImageRequest
from service.application.requests.parse import violations_of
from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.models.catalog import Model
from service.domain.requests.request import MAX_PROMPT_CHARACTERS

#: Pictures that a form may hold before it is refused unread; one and a mask are of use.
_MAX_FILES = 17

#: Clients write a list as `image[]`, also a list of one.
_PICTURES = ("image", "image[]")
_FILES = (*_PICTURES, "mask")

#: Names of the parts of nested fields, as OpenAI's clients write them in forms:
#: `method_options[t1_ratio]` and `loras[][name]`.
_PART = re.compile(r"(?P<object>\w+)\[(?P<option>\w+)\]|(?P<list>\w+)\[\]\[(?P<key>\w+)\]")

#: Strength that stands for keeping close to the picture.
_HIGH_FIDELITY_STRENGTH = 0.5

#: Strength of a variation: a picture like the other, and not the same.
_VARIATION_STRENGTH = 0.7

_BINARY = {"type": "string", "format": "binary"}


class ImageEditRequest(ImageRequest):
    """What OpenAI's clients send beside the files, and the extensions."""

    partial_event: ClassVar[EventName] = "image_edit.partial_image"
    completed_event: ClassVar[EventName] = "image_edit.completed"

    input_fidelity: Literal["low", "high"] | None = Field(
        None, description="`high` stands for a strength of 0.5; with a mask it changes nothing."
    )
    strength: float | None = Field(
        None, description="Comes before `input_fidelity`; default: 0.8, with a mask 1."
    )

    def fields_with(self, model: Model | None, image: str, mask: str | None) -> dict[str, Any]:
        """The fields of a `GenerationRequest` for `model` that starts from uploads."""
        given = self.fields(model) | {"image": image}
        if mask is not None:
            return given | {"mask": mask}
        if self.input_fidelity == "high":
            return {"strength": _HIGH_FIDELITY_STRENGTH} | given
        return given


class ImageVariationRequest(ImageEditRequest):
    """What OpenAI's clients send beside the picture of a variation, and the extensions."""

    prompt: str = Field(
        " ", min_length=1, max_length=MAX_PROMPT_CHARACTERS, description="Extension: words."
    )
    strength: float | None = Field(None, description="Extension; default: 0.7.")

    def fields_with(self, model: Model | None, image: str, mask: str | None) -> dict[str, Any]:
        """The fields of a `GenerationRequest` for `model` that starts from an upload."""
        return {"strength": _VARIATION_STRENGTH} | super().fields_with(model, image, mask)


@dataclass(frozen=True)
class Edit:
    """The fields of an edit, its picture with the name that it was sent by, and maybe a mask."""

    request: ImageEditRequest
    image: bytes
    image_field: str
    mask: bytes | None


async def read_edit(http: Request, kind: type[ImageEditRequest] = ImageEditRequest) -> Edit:
    """The whole of an edit, or of a variation, which has no mask.

    Raises:
        InvalidRequest: the body is no form, a field breaks a rule, or there is not one picture.
    """
    if not is_form(http):
        sent = http.headers.get("content-type", "nothing")
        raise _refusal("image", f"a body of the type {sent!r}", "send a multipart/form-data form")
    async with read_form(http, files=_MAX_FILES) as form:
        request = _fields(form, kind)
        pictures = [(name, value) for name in _PICTURES for value in form.getlist(name)]
        if len(pictures) != 1:
            rule = "models here start from one picture; send one"
            named = pictures[0][0] if pictures else "image"
            raise _refusal(named, f"{len(pictures)} pictures", rule)
        field, picture = pictures[0]
        mask = form.get("mask")
        return Edit(
            request,
            await _file(field, picture),
            field,
            None if mask is None else await _file("mask", mask),
        )


def form_schema(kind: type[ImageEditRequest]) -> dict[str, Any]:
    """The form as the OpenAPI document has it."""
    schema = kind.model_json_schema(ref_template=REFERENCE)
    mask = _BINARY | {"description": "PNG or WebP of the same size, transparent where to edit."}
    files = {"image": _BINARY, "mask": mask}
    schema["properties"] = {name: files[name] for name in _files_of(kind)} | schema["properties"]
    schema["required"] = ["image", *schema.get("required", [])]
    del schema["examples"], schema["$defs"]  # the document has these for other routes too
    return schema


def _files_of(kind: type[ImageEditRequest]) -> tuple[str, ...]:
    """The fields for files, as they are documented."""
    return ("image",) if kind is ImageVariationRequest else ("image", "mask")


def _fields(form: FormData, kind: type[ImageEditRequest]) -> ImageEditRequest:
    files = _PICTURES if kind is ImageVariationRequest else _FILES
    plain: dict[str, str] = {}
    nested: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in files:
            continue
        if isinstance(value, UploadFile):
            raise _refusal(name, "a file", f"files are taken as {', '.join(files)}")
        if not value and name != "prompt":
            continue  # forms on pages send what was left empty
        if part := _PART.fullmatch(name):
            _put(nested, part, value)
        else:
            plain[name] = value
    try:
        request = kind.model_validate_strings(plain)
        given = request.model_dump(exclude_unset=True)
        return kind.model_validate(given | nested)
    except ValidationError as error:
        raise InvalidRequest(violations_of(error.errors(), kind)) from None


def _put(nested: dict[str, Any], part: re.Match[str], text: str) -> None:
    """Put a part of a nested field into its place; parts of list entries come key by key."""
    value = _scalar(text)
    if part["option"]:
        nested.setdefault(part["object"], {})[part["option"]] = value
        return
    entries = nested.setdefault(part["list"], [])
    entry = next((each for each in entries if part["key"] not in each), None)
    if entry is None:
        entries.append(entry := {})
    entry[part["key"]] = value


def _scalar(text: str) -> Any:
    """A number or truth value as JSON writes it, or else the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) else text


async def _file(field: str, part: UploadFile | str) -> bytes:
    if isinstance(part, str):
        raise _refusal(field, "a field that is no file", "send it as a file with a filename")
    return await part.read()


def _refusal(field: str, value: str, rule: str) -> InvalidRequest:
    return InvalidRequest([FieldViolation(field, value, rule)])
