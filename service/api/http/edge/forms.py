"""Bodies of the media type multipart/form-data: fields and files, read within limits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from service.domain.errors import FieldViolation, InvalidRequest

MEDIA_TYPE = "multipart/form-data"

#: Fields beside the files, and the longest of them in bytes: prompts go here.
_MAX_FIELDS = 64
_MAX_FIELD_BYTES = 64 * 1024

#: What a form may take beside its files; bodies are limited as a whole before they are read.
OVERHEAD_BYTES = 128 * 1024


def is_form(http: Request) -> bool:
    """Whether the body says that it is a form with files."""
    return http.headers.get("content-type", "").lower().startswith(MEDIA_TYPE)


@asynccontextmanager
async def read_form(http: Request, files: int) -> AsyncIterator[FormData]:
    """The form, with up to `files` files; long ones wait on disk until the block ends.

    Raises:
        HTTPException: 400, the body is no such form, or has too many parts.
    """
    async with http.form(
        max_files=files, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
    ) as form:
        yield form


async def file_of(form: FormData, field: str) -> bytes:
    """The file in a field.

    Raises:
        InvalidRequest: there is none.
    """
    part = form.get(field)
    if isinstance(part, UploadFile):
        return await part.read()
    value = "nothing" if part is None else "a field that is no file"
    rule = "send the picture as a file with a filename"
    raise InvalidRequest([FieldViolation(field, value, rule)])
