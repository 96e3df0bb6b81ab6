"""The routes of A1111's API."""

import base64
import binascii
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from service.api.http.a1111 import answers
from service.api.http.a1111.requests import (
    MARK,
    ExtraSingleImage,
    ImageToImage,
    Settings,
    TextToImage,
)
from service.api.http.dependencies import (
    PicturesDep,
    SettingsDep,
    StoppingDep,
    UseCasesDep,
)
from service.api.http.openai.image_wait import ImageWait
from service.application.batch import GenerateBatch
from service.application.requests.parse import parse_request
from service.application.use_cases import UseCases
from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.generations.generation import Generation, Status
from service.domain.requests.request import GenerationRequest
from service.storage.metadata import read_text

router = APIRouter(prefix="/sdapi/v1", include_in_schema=False)

#: Callers whose choice of a model is remembered; the longest ago goes first.
_MOST_CHOICES = 1000


class Choices:
    """The model that each caller chose by `options`, in this process and for as long as it runs."""

    def __init__(self) -> None:
        self._models: dict[str, str] = {}

    def of(self, request: Request) -> str | None:
        """What the caller of `request` chose, if anything."""
        return self._models.get(request.headers.get("authorization", ""))

    def choose(self, request: Request, model: str) -> None:
        """Remember a choice."""
        self._models[request.headers.get("authorization", "")] = model
        if len(self._models) > _MOST_CHOICES:
            del self._models[next(iter(self._models))]


async def _choices_of_app(request: Request) -> Choices:
    choices: Choices = request.app.state.a1111_choices
    return choices


ChoicesDep = Depends(_choices_of_app)


class PngInfo(BaseModel):
    """A picture in base64."""

    image: str


@router.post("/txt2img")
async def txt2img(
    *,
    request: TextToImage,
    http: Request,
    use_cases: UseCasesDep,
    settings: SettingsDep,
    stopping: StoppingDep,
    work: PicturesDep,
    choices: Choices = ChoicesDep,
) -> dict[str, Any]:
    """Make pictures and wait for them."""
    wanted = _asked(request, http, choices)
    done = await _made(
        wanted,
        request.count,
        http,
        use_cases=use_cases,
        settings=settings,
        stopping=stopping,
        work=work,
    )
    asked = request.model_dump(mode="json")
    return await run_in_threadpool(answers.pictures, use_cases.query, done, asked)


@router.post("/img2img")
async def img2img(
    *,
    request: ImageToImage,
    http: Request,
    use_cases: UseCasesDep,
    settings: SettingsDep,
    stopping: StoppingDep,
    work: PicturesDep,
    choices: Choices = ChoicesDep,
) -> dict[str, Any]:
    """Make pictures from a picture and wait for them."""
    wanted = _asked(request, http, choices)
    done = await _made(
        wanted,
        request.count,
        http,
        use_cases=use_cases,
        settings=settings,
        stopping=stopping,
        work=work,
    )
    asked = request.model_dump(mode="json", exclude={"init_images", "mask"})
    return await run_in_threadpool(answers.pictures, use_cases.query, done, asked)


@router.post("/extra-single-image")
async def extra_single_image(
    *,
    request: ExtraSingleImage,
    http: Request,
    use_cases: UseCasesDep,
    settings: SettingsDep,
    stopping: StoppingDep,
    work: PicturesDep,
) -> dict[str, Any]:
    """Enlarge a picture and wait for it."""
    models = (status.model for status in await run_in_threadpool(use_cases.query.models))
    fields = request.fields([each for each in models if each.kind == "upscaler"])
    asked = parse_request(fields)
    (done,) = await _made(
        asked,
        1,
        http,
        use_cases=use_cases,
        settings=settings,
        stopping=stopping,
        work=work,
    )
    image = await run_in_threadpool(answers.picture, use_cases.query, done)
    return {"html_info": "", "image": image}


def _asked(request: TextToImage, http: Request, choices: Choices) -> GenerationRequest:
    if violations := [*request.violations()]:
        raise InvalidRequest(violations)
    return parse_request(request.fields(choices.of(http)))


async def _made(
    asked: GenerationRequest,
    count: int,
    http: Request,
    *,
    use_cases: UseCases,
    settings: SettingsDep,
    stopping: StoppingDep,
    work: PicturesDep,
) -> list[Generation]:
    submit = partial(GenerateBatch(use_cases).submit, asked, count)
    accepted = await work.submitted(use_cases.tenant, asked, submit)
    wait = ImageWait(use_cases, accepted, settings.image_wait_seconds, stopping, keep=False)
    return await wait.all(http)


@router.post("/png-info")
async def png_info(request: PngInfo, use_cases: UseCasesDep) -> dict[str, Any]:  # noqa: ARG001
    """What a picture's file says of how it was made."""
    try:
        data = base64.b64decode(request.image.rpartition(",")[2], validate=True)
        text = read_text(data)
    except (ValueError, binascii.Error):
        rule = "it must be a PNG in base64"
        raise InvalidRequest([FieldViolation("image", "a text", rule)]) from None
    return {"info": text.get("parameters", ""), "items": text, "parameters": {}}


@router.get("/sd-models")
def sd_models(use_cases: UseCasesDep) -> list[dict[str, Any]]:
    """The models."""
    return answers.models(use_cases.query.models())


@router.get("/samplers")
def samplers(use_cases: UseCasesDep) -> list[dict[str, Any]]:
    """The samplers."""
    return answers.samplers(use_cases.query.models())


@router.get("/schedulers")
def schedulers() -> list[dict[str, Any]]:
    """The sigma schedules."""
    return answers.schedules()


@router.get("/loras")
def loras(use_cases: UseCasesDep) -> list[dict[str, Any]]:
    """The LoRAs."""
    return answers.loras(use_cases.query.models())


@router.get("/upscalers")
def upscalers(use_cases: UseCasesDep) -> list[dict[str, Any]]:
    """The upscalers."""
    return answers.upscalers(use_cases.query.models())


@router.get("/latent-upscale-modes")
@router.get("/sd-vae")
def nothing_to_choose() -> list[dict[str, Any]]:
    """What clients ask for before they offer a choice: there is none here."""
    return [{"name": "None"}]


@router.get("/scripts")
def scripts() -> dict[str, Any]:
    """Extensions: none."""
    return {"txt2img": [], "img2img": []}


@router.get("/options")
def options(
    request: Request, use_cases: UseCasesDep, choices: Choices = ChoicesDep
) -> dict[str, Any]:
    """The settings that there are: which model is used when a request names none."""
    default = use_cases.query.model(None)
    return {"sd_model_checkpoint": choices.of(request) or (default.name if default else "")}


@router.post("/options")
def set_options(
    settings: Settings, request: Request, use_cases: UseCasesDep, choices: Choices = ChoicesDep
) -> None:
    """Choose the model for the caller's requests that name none; other settings say nothing."""
    wanted = settings.sd_model_checkpoint
    if wanted is None:
        return
    model = use_cases.query.model(wanted)
    if model is None:
        known = ", ".join(status.model.name for status in use_cases.query.models())
        violation = FieldViolation("sd_model_checkpoint", repr(wanted), f"allowed are {known}")
        raise InvalidRequest([violation])
    choices.choose(request, model.name)


@router.get("/progress")
def progress(
    use_cases: UseCasesDep,
    skip_current_image: bool = False,  # noqa: ARG001
) -> dict[str, Any]:
    """How far the caller's newest running picture is."""
    running = use_cases.query.generations(Status.RUNNING, None, 1).generations
    waiting = use_cases.query.generations(Status.QUEUED, None, 100).generations
    return answers.progress(running[0] if running else None, len(waiting))


@router.post("/interrupt")
@router.post("/skip")
def interrupt(use_cases: UseCasesDep) -> None:
    """Stop the caller's pictures that were asked for by this interface."""
    for status in (Status.RUNNING, Status.QUEUED):
        for each in use_cases.query.generations(status, None, 100).generations:
            if MARK.items() <= each.client_metadata.items():
                use_cases.cancel(each.id)
