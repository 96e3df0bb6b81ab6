"""The OpenAI Images API, so that its clients work when they are pointed here."""

from functools import partial
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api.http.dependencies import PicturesDep, SettingsDep, StoppingDep, UseCasesDep
from service.api.http.headers import idempotency_key
from service.api.http.image_answers import picture_answer, streamed, url_answer
from service.api.http.image_edits import (
    ImageEditRequest,
    ImageVariationRequest,
    form_schema,
    read_edit,
)
from service.api.http.image_schemas import (
    EventName,
    ImageError,
    ImageEvent,
    ImageRequest,
    ImagesResponse,
)
from service.api.http.image_wait import ImageWait
from service.api.http.openapi import REFERENCE
from service.api.picture_work import PictureWork
from service.application.batch import GenerateBatch
from service.application.parse import parse_request
from service.application.query import Query
from service.application.use_cases import UseCases
from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.generation import Generation
from service.domain.request import GenerationRequest

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


@router.post("/generations", response_class=Response, responses=_RESPONSES)
async def generate_images(
    *,
    request: ImageRequest,
    http: Request,
    use_cases: UseCasesDep,
    settings: SettingsDep,
    stopping: StoppingDep,
    pictures: PicturesDep,
    idempotency: IdempotencyHeader = None,
) -> Response:
    """Make pictures and wait for them, as the OpenAI Images API does."""
    key = idempotency_key(idempotency)
    _refuse_several_streams(request)
    asked = parse_request(request.fields(use_cases.query.model(request.model)))
    accepted = await _accepted(use_cases, request, asked, key)
    seconds = settings.image_wait_seconds
    wait = ImageWait(use_cases, accepted, seconds, stopping, keep=key is not None)
    return await _answer(http, use_cases.query, request, wait, pictures)


def _form(kind: type[ImageEditRequest]) -> dict[str, Any]:
    content = {"multipart/form-data": {"schema": form_schema(kind)}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/edits",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=_form(ImageEditRequest),
)
async def edit_images(
    *,
    http: Request,
    use_cases: UseCasesDep,
    settings: SettingsDep,
    stopping: StoppingDep,
    pictures: PicturesDep,
    idempotency: IdempotencyHeader = None,
) -> Response:
    """Make pictures from a picture and wait for them, as the OpenAI Images API does."""
    return await _from_picture(
        ImageEditRequest,
        http=http,
        use_cases=use_cases,
        settings=settings,
        stopping=stopping,
        pictures=pictures,
        key=idempotency_key(idempotency),
    )


@router.post(
    "/variations",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=_form(ImageVariationRequest),
)
async def vary_images(
    *,
    http: Request,
    use_cases: UseCasesDep,
    settings: SettingsDep,
    stopping: StoppingDep,
    pictures: PicturesDep,
    idempotency: IdempotencyHeader = None,
) -> Response:
    """Make pictures like a picture and wait for them, as the OpenAI Images API does."""
    return await _from_picture(
        ImageVariationRequest,
        http=http,
        use_cases=use_cases,
        settings=settings,
        stopping=stopping,
        pictures=pictures,
        key=idempotency_key(idempotency),
    )


async def _from_picture(
    kind: type[ImageEditRequest],
    *,
    http: Request,
    use_cases: UseCases,
    settings: SettingsDep,
    stopping: StoppingDep,
    pictures: PictureWork,
    key: str | None,
) -> Response:
    edit = await read_edit(http, kind)
    request = edit.request
    _refuse_several_streams(request)
    add = partial(use_cases.uploads.add_for_edit, edit.image, edit.mask, edit.image_field)
    uploads = await pictures.run(use_cases.tenant, add)
    model = use_cases.query.model(request.model)
    asked = parse_request(request.fields_with(model, *uploads))
    accepted = await _accepted(use_cases, request, asked, key)
    seconds = settings.image_wait_seconds
    wait = ImageWait(use_cases, accepted, seconds, stopping, keep=key is not None)
    return await _answer(http, use_cases.query, request, wait, pictures)


def _refuse_several_streams(request: ImageRequest) -> None:
    if request.stream and (request.n or 1) > 1:
        rule = "a stream shows one picture; send n=1, or a request for each"
        raise InvalidRequest([FieldViolation("n", repr(request.n), rule)])


async def _accepted(
    use_cases: UseCases, request: ImageRequest, asked: GenerationRequest, key: str | None
) -> list[Generation]:
    return await run_in_threadpool(GenerateBatch(use_cases).submit, asked, request.n or 1, key)


async def _answer(
    http: Request, query: Query, request: ImageRequest, wait: ImageWait, pictures: PictureWork
) -> Response:
    read = partial(pictures.read, query)
    if request.stream:
        return streamed(query, read, request, wait.first, wait.events())
    done = await wait.all(http)
    if request.response_format == "url":
        return await run_in_threadpool(url_answer, http, query, request, done)
    return await run_in_threadpool(picture_answer, query, read, request, done)
