"""The OpenAI Images API, so that its clients work when they are pointed here."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api.http.dependencies import PicturesDep, SettingsDep, StoppingDep, UseCasesDep
from service.api.http.headers import idempotency_key
from service.api.http.openai.image_answers import picture_answer, streamed, url_answer
from service.api.http.openai.image_edits import (
    ImageEditRequest,
    ImageVariationRequest,
    form_schema,
    read_edit,
)
from service.api.http.openai.image_wait import ImageWait
from service.api.http.openapi import REFERENCE
from service.api.http.views.image_schemas import (
    EventName,
    ImageError,
    ImageEvent,
    ImageRequest,
    ImagesResponse,
)
from service.application.batch import GenerateBatch
from service.application.requests.parse import parse_request
from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.requests.request import GenerationRequest

router = APIRouter(prefix="/v1/images", tags=["openai"])

IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="With a key, the work goes on when the client leaves, and repeating the "
        "request finds it; without one, leaving cancels it.",
    ),
]

_ERRORS = {
    400: "A rule is broken, or the body cannot be read.",
    409: "Somebody cancelled the generation.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    500: "The picture could not be made; `code` says why.",
    503: "A dependency cannot be reached.",
    504: "The picture was not ready in time, and was cancelled.",
    507: "Stored results and uploads take all the room there is for them.",
}
#: Each event of a stream: the data of `error` is as the body of an error, that of others a picture.
_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": [*get_args(EventName), "error"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "anyOf": [
                    {"$ref": REFERENCE.format(model=model.__name__)}
                    for model in (ImageEvent, ImageError)
                ]
            },
        },
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The pictures; with `stream`, server-sent events: previews, then the "
        "finished picture.",
        "content": {"text/event-stream": {"itemSchema": _EVENT}},
        "model": ImagesResponse,
    },
    **{status: {"description": text, "model": ImageError} for status, text in _ERRORS.items()},
}


@dataclass(frozen=True)
class _Call:
    """What every route has beside its body."""

    http: Request
    use_cases: UseCasesDep
    settings: SettingsDep
    stopping: StoppingDep
    pictures: PicturesDep
    idempotency: IdempotencyHeader = None


_CallDep = Annotated[_Call, Depends()]


@router.post("/generations", response_class=Response, responses=_RESPONSES)
async def generate_images(request: ImageRequest, call: _CallDep) -> Response:
    """Make pictures and wait for them, as the OpenAI Images API does."""
    key = idempotency_key(call.idempotency)
    _refuse_several_streams(request)
    asked = parse_request(request.fields(call.use_cases.query.model(request.model)))
    return await _made(call, key, request, asked)


def _form(kind: type[ImageEditRequest]) -> dict[str, Any]:
    content = {"multipart/form-data": {"schema": form_schema(kind)}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/edits",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=_form(ImageEditRequest),
)
async def edit_images(call: _CallDep) -> Response:
    """Make pictures from a picture and wait for them, as the OpenAI Images API does."""
    return await _from_picture(ImageEditRequest, call)


@router.post(
    "/variations",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=_form(ImageVariationRequest),
)
async def vary_images(call: _CallDep) -> Response:
    """Make pictures like a picture and wait for them, as the OpenAI Images API does."""
    return await _from_picture(ImageVariationRequest, call)


async def _from_picture(kind: type[ImageEditRequest], call: _Call) -> Response:
    key, use_cases = idempotency_key(call.idempotency), call.use_cases
    edit = await read_edit(call.http, kind)
    request = edit.request
    _refuse_several_streams(request)
    add = partial(use_cases.uploads.add_for_edit, edit.image, edit.mask, edit.image_field)
    uploads = await call.pictures.run(use_cases.tenant, add)
    asked = parse_request(request.fields_with(use_cases.query.model(request.model), *uploads))
    return await _made(call, key, request, asked)


def _refuse_several_streams(request: ImageRequest) -> None:
    if request.stream and (request.n or 1) > 1:
        rule = "a stream shows one picture; send n=1, or a request for each"
        raise InvalidRequest([FieldViolation("n", repr(request.n), rule)])


async def _made(
    call: _Call, key: str | None, request: ImageRequest, asked: GenerationRequest
) -> Response:
    submit = GenerateBatch(call.use_cases).submit
    accepted = await run_in_threadpool(submit, asked, request.n or 1, key)
    seconds = call.settings.image_wait_seconds
    wait = ImageWait(call.use_cases, accepted, seconds, call.stopping, keep=key is not None)
    query = call.use_cases.query
    read = partial(call.pictures.read, query)
    if request.stream:
        return streamed(query, read, request, wait.first, wait.events())
    done = await wait.all(call.http)
    if request.response_format == "url":
        return await run_in_threadpool(url_answer, call.http, query, request, done)
    return await run_in_threadpool(picture_answer, query, read, request, done)
