"""The OpenAI Images API as this service speaks it: what it reads, and what it answers."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.domain.artifacts import OutputFormat
from service.domain.generations.generation import Generation
from service.domain.models.adapters import MAX_LORAS, LoraChoice
from service.domain.models.catalog import Model
from service.domain.models.controls import MAX_CONTROLS, ControlChoice
from service.domain.models.image_prompts import ImagePrompt
from service.domain.models.methods import OptionValue
from service.domain.requests.request import (
    MAX_PROMPT_CHARACTERS,
    MAX_STEPS,
    GenerationRequest,
)
from service.domain.requests.seeds import MAX_SEED

MAX_IMAGES = 10
MAX_PARTIAL_IMAGES = 3

ImageQuality = Literal["auto", "standard", "hd", "low", "medium", "high", "xhigh", "max"]

EventName = Literal[
    "image_generation.partial_image",
    "image_generation.completed",
    "image_edit.partial_image",
    "image_edit.completed",
]

#: Denoising steps, as a multiple of the model's default, that each quality stands for.
QUALITY_STEPS: dict[str, float] = {
    "low": 0.5,
    "medium": 1,
    "standard": 1,
    "auto": 1,
    "high": 1.5,
    "hd": 1.5,
    "xhigh": 2,
    "max": 3,
}

#: The names that answers have for the qualities that OpenAI's API no longer names so.
_ANSWERED_QUALITY = {"auto": "medium", "standard": "medium", "hd": "high"}

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


class ImageRequest(BaseModel):
    """What OpenAI's clients send, and the extensions that other servers of this API have too."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"prompt": "a red guitar", "size": "1024x1024"},
                {
                    "prompt": "a frog",
                    "n": 2,
                    "size": "512x512",
                    "quality": "low",
                    "output_format": "webp",
                    "output_compression": 90,
                    "seed": 7,
                },
            ]
        },
    )

    #: Names of the events of a stream.
    partial_event: ClassVar[EventName] = "image_generation.partial_image"
    completed_event: ClassVar[EventName] = "image_generation.completed"

    prompt: str = Field(
        min_length=1, max_length=MAX_PROMPT_CHARACTERS, description="What the picture shows."
    )
    model: str | None = Field(None, description="A model that `GET /v1/models` lists.")
    n: Annotated[int | None, Field(ge=1, le=MAX_IMAGES, description="How many pictures.")] = None
    size: Annotated[
        str | None,
        Field(
            pattern=r"^(auto|[0-9]{1,5}x[0-9]{1,5})$",
            description="`WIDTHxHEIGHT` in pixels, up to the model's maximum; `auto`: its default.",
        ),
    ] = None
    quality: ImageQuality | None = Field(
        None,
        description="Denoising steps, as multiples of the model's default: `low` 0.5; `medium`, "
        "`standard` and `auto` 1; `high` and `hd` 1.5; `xhigh` 2; `max` 3.",
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None, description="Whether the answer holds the picture or its URL; default: `b64_json`."
    )
    output_format: OutputFormat | None = Field(None, description="Default: `png`.")
    output_compression: Annotated[
        int | None,
        Field(
            ge=0,
            le=100,
            description="Quality of a WebP, JPEG or AVIF picture; 100 is best. PNG takes only 100.",
        ),
    ] = None
    background: Literal["opaque", "auto"] | None = Field(
        None, description="Pictures are opaque; `transparent` is refused."
    )
    stream: bool | None = Field(None, description="Answer with server-sent events; `n` must be 1.")
    partial_images: Annotated[
        int | None,
        Field(ge=0, le=MAX_PARTIAL_IMAGES, description="Previews, at most, while it is made."),
    ] = None
    user: str | None = Field(None, description="Accepted and not used.")
    safety_identifier: str | None = Field(None, description="Accepted and not used.")
    moderation: Literal["low", "auto"] | None = Field(None, description="Accepted and not used.")
    style: Literal["vivid", "natural"] | None = Field(None, description="Accepted and not used.")

    negative_prompt: Annotated[
        str | None, Field(max_length=MAX_PROMPT_CHARACTERS, description="What it should not show.")
    ] = None
    num_inference_steps: Annotated[
        int | None, Field(ge=1, le=MAX_STEPS, description="Comes before `quality`.")
    ] = None
    guidance_scale: Annotated[
        float | None,
        Field(ge=0, le=50, allow_inf_nan=False, description="Classifier-free guidance."),
    ] = None
    seed: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_SEED,
            description="Of the first picture; each further one has the next, modulo 2**53.",
        ),
    ] = None
    scheduler: str | None = Field(None, description="A diffusers scheduler class.")
    method: str | None = Field(None, description="How to go beyond native size.")
    method_options: dict[str, OptionValue] | None = Field(
        None, description="Options of the method."
    )
    prompt_weighting: bool | None = Field(
        None, description="Whether prompts are read with weights, and whole."
    )
    loras: Annotated[
        list[LoraChoice] | None,
        Field(max_length=MAX_LORAS, description="LoRAs to draw with, added up."),
    ] = None
    controls: Annotated[
        list[ControlChoice] | None,
        Field(max_length=MAX_CONTROLS, description="ControlNets to be guided by, added up."),
    ] = None
    image_prompt: ImagePrompt | None = Field(
        None, description="A picture that says what to draw beside the words."
    )

    def fields(self, model: Model | None) -> dict[str, Any]:
        """The fields of a `GenerationRequest` for `model`, without those that were left out."""
        given = self.model_dump(
            include=GenerationRequest.model_fields.keys() - {"quality"}, exclude_none=True
        )
        if size := _SIZE.fullmatch(self.size or ""):
            given |= {"width": int(size[1]), "height": int(size[2])}
        if model is not None and self.num_inference_steps is None:
            given["num_inference_steps"] = _steps(self.quality, model)
        lossless = self.output_format in {None, "png"} and self.output_compression == 100
        if self.output_compression is not None and not lossless:
            given["quality"] = max(self.output_compression, 1)
        return given

    @property
    def answered_quality(self) -> str:
        """The quality as answers name it."""
        quality = self.quality or "auto"
        return _ANSWERED_QUALITY.get(quality, quality)


def _steps(quality: ImageQuality | None, model: Model) -> int:
    steps = round(model.default_steps * QUALITY_STEPS[quality or "auto"])
    return min(max(steps, 1), MAX_STEPS)


#: Where a rule names a field of ours, the field that an OpenAI client knows.
CLIENT_FIELDS = {"width": "size", "height": "size", "quality": "output_compression"}


class _TokenDetails(BaseModel):
    image_tokens: int = 0
    text_tokens: int = 0


class Usage(BaseModel):
    """Tokens, which are not counted here: clients need the fields to be there."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: _TokenDetails = _TokenDetails()
    output_tokens_details: _TokenDetails = _TokenDetails()


class Image(BaseModel):
    """One picture of an answer, with the id of its generation and the seed that remakes it."""

    b64_json: str | None = Field(None, description="The picture, in base64.")
    url: str | None = Field(None, description="Where the picture is.")
    revised_prompt: None = None
    generation_id: str
    seed: int


class ImagesResponse(BaseModel):
    """The answer to a request that does not stream."""

    created: int = Field(description="Unix time in seconds.")
    background: Literal["opaque"] = "opaque"
    output_format: OutputFormat
    quality: str
    size: str = Field(examples=["1024x1024"])
    usage: Usage = Usage()
    data: Sequence[Image]


class ImageEvent(BaseModel):
    """One server-sent event of a request that streams: a preview, or the finished picture."""

    type: EventName
    created_at: int = Field(description="Unix time in seconds.")
    size: str = Field(description="Of the finished picture.", examples=["1024x1024"])
    quality: str
    background: Literal["opaque"] = "opaque"
    output_format: OutputFormat = Field(description="Of `b64_json`; previews are JPEG.")
    generation_id: str
    partial_image_index: int | None = Field(None, description="From 0; with previews only.")
    usage: Usage | None = Field(None, description="With the finished picture only.")
    b64_json: str = Field("", description="The picture, in base64.")


class ImageErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(description="The offending field.", examples=["size"])
    code: str | None = Field(description="Stable, for programs.", examples=["invalid_request"])


class ImageError(BaseModel):
    """The body of every error response below `/v1/images`."""

    error: ImageErrorBody


def size_text(generation: Generation) -> str:
    """Width and height as OpenAI's API writes them."""
    return f"{generation.request.output_width}x{generation.request.output_height}"


def unix_time(moment: datetime) -> int:
    """Whole seconds since 1970."""
    return int(moment.timestamp())
