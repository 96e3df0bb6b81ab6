"""What a client asks for, and the same with nothing left open."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.domain.artifacts import BitDepth, OutputFormat, TileFormat
from service.domain.models.adapters import MAX_LORAS, LoraChoice
from service.domain.models.controls import MAX_CONTROLS, ControlChoice
from service.domain.models.image_prompts import ImagePrompt
from service.domain.models.methods import OptionValue
from service.domain.requests.request_examples import EXAMPLES
from service.domain.requests.seeds import MAX_SEED
from service.domain.requests.upscaling import Upscale, UpscaleChoice
from service.domain.webhooks import Webhook

#: Version of the records that this code writes, and the newest it can read. A new field of
#: `ResolvedRequest` needs no new version; a field that changes its meaning does.
RECORD_SCHEMA = 1

MAX_PROMPT_CHARACTERS = 4000
MAX_STEPS = 150
MAX_BATCH = 16
MAX_TIMEOUT_SECONDS = 24 * 3600
MAX_CLIENT_METADATA = 16
MAX_EXPIRY_SECONDS = 366 * 24 * 3600

#: The prompt of a request to an upscaler that has none.
UPSCALED = "upscaled"

Priority = Literal["high", "normal", "low"]
#: Every priority, the most urgent first.
PRIORITIES: tuple[Priority, ...] = get_args(Priority)


ClientMetadata = dict[
    Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=500)]
]


class GenerationRequest(BaseModel):
    """What a client asks for. Fields left out take the model's defaults; a seed is drawn."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": EXAMPLES},
    )

    prompt: Annotated[
        str,
        Field(
            min_length=1, max_length=MAX_PROMPT_CHARACTERS, description="What the picture shows."
        ),
    ]
    class_label: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=200,
            description="Of a class-to-image model: the class to draw, by name or number. `prompt` "
            "may then be left out; left out itself, `prompt` names the class.",
        ),
    ] = None
    negative_prompt: Annotated[
        str, Field(max_length=MAX_PROMPT_CHARACTERS, description="What it should not show.")
    ] = ""
    model: Annotated[
        str | None, Field(description="A model name of `GET /v1/models`; default: the first.")
    ] = None
    width: Annotated[
        int | None, Field(description="Pixels, a multiple of 8 within the model's limits.")
    ] = None
    height: Annotated[
        int | None, Field(description="Pixels, a multiple of 8 within the model's limits.")
    ] = None
    aspect_ratio: Annotated[
        str | None,
        Field(
            pattern=r"^[1-9][0-9]{0,2}:[1-9][0-9]{0,2}$",
            description="Width to height, `16:9`, in place of one of them or both: with neither, "
            "the picture has as many pixels as the model's default.",
        ),
    ] = None
    num_inference_steps: Annotated[
        int | None, Field(ge=1, le=MAX_STEPS, description="Denoising steps, 1 to 150.")
    ] = None
    guidance_scale: Annotated[
        float | None,
        Field(ge=0, le=50, allow_inf_nan=False, description="Classifier-free guidance, 0 to 50."),
    ] = None
    prompt_weighting: Annotated[
        bool,
        Field(
            description="Whether prompts are read with weights, `a (red)1.3 fox` or `a red++ fox`, "
            "and whole, however long; else as they stand, up to what the text encoder takes."
        ),
    ] = False
    loras: Annotated[
        list[LoraChoice],
        Field(max_length=MAX_LORAS, description="LoRAs to draw with, added up."),
    ] = Field(default_factory=list)
    seed: Annotated[
        int | None,
        Field(ge=-1, le=MAX_SEED, description="0 to 2**53 - 1; drawn when left out, or -1."),
    ] = None
    scheduler: Annotated[
        str | None,
        Field(
            description="A diffusers scheduler class that the model lists, with `+karras`, "
            "`+exponential` or `+sde` or without; or what others call it, such as `euler_a`."
        ),
    ] = None
    method: Annotated[
        str | None, Field(description="How to go beyond native size; see `GET /v1/models`.")
    ] = None
    method_options: Annotated[
        dict[str, OptionValue],
        Field(
            max_length=32,
            description="Options of the method, by the schema in `GET /v1/models`; others keep "
            "their defaults.",
        ),
    ] = Field(default_factory=dict)
    image: Annotated[
        str | None,
        Field(
            description="A picture to start from: the id of an upload, or of a generation whose "
            "picture it is; an https URL; or a data URL in base64."
        ),
    ] = None
    scale: Annotated[
        int | None,
        Field(
            ge=1,
            le=8,
            description="Of an upscaler: how many times larger `image` is to be. `prompt` may be "
            "left out then. Default: the largest that the model has.",
        ),
    ] = None
    upscale: Annotated[
        UpscaleChoice | None,
        Field(description="Enlarge the picture that is drawn, as a second stage."),
    ] = None
    mask: Annotated[
        str | None,
        Field(
            description="White where `image` is to be drawn anew, black or transparent where it "
            "stays: luminance times alpha counts. Of the same size, and given in the same ways."
        ),
    ] = None
    strength: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="How far to go from `image`: the share of the steps that is run. "
            "Default: 0.8; with a mask, 1.",
        ),
    ] = None
    controls: Annotated[
        list[ControlChoice],
        Field(max_length=MAX_CONTROLS, description="ControlNets to be guided by, added up."),
    ] = Field(default_factory=list)
    image_prompt: Annotated[
        ImagePrompt | None, Field(description="A picture that says what to draw beside the words.")
    ] = None
    output_format: Annotated[
        OutputFormat, Field(description="Format of the full-size picture.")
    ] = "png"
    bit_depth: Annotated[
        BitDepth,
        Field(description="Bits per channel of the full-size picture; 16: PNG, 10 and 12: AVIF."),
    ] = 8
    quality: Annotated[
        int | None,
        Field(
            ge=1,
            le=100,
            description="Quality of a WebP, JPEG or AVIF picture; default: 92, for AVIF 80.",
        ),
    ] = None
    tile_format: Annotated[
        TileFormat, Field(description="Format of the tiles; WebP is lossless here, JPEG is not.")
    ] = "png"
    tiles: Annotated[
        bool,
        Field(
            description="Whether tiles are stored, the moment each is final; else the result is "
            "the full-size picture and its thumbnail alone."
        ),
    ] = True
    metadata: Annotated[
        bool,
        Field(description="Whether the picture's file carries its recipe, the prompt included."),
    ] = True
    priority: Annotated[
        Priority, Field(description="Who is served first among those that wait.")
    ] = "normal"
    timeout_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_TIMEOUT_SECONDS,
            description="Longest run of one attempt; default, and limit: the worker's own.",
        ),
    ] = None
    client_metadata: Annotated[
        ClientMetadata,
        Field(
            max_length=MAX_CLIENT_METADATA,
            description="What the client wants to find in the record again: 16 texts of up to 500 "
            "characters, under names of up to 64. It changes nothing.",
        ),
    ] = Field(default_factory=dict)
    webhook: Annotated[
        Webhook | None,
        Field(description="Where to call once the generation is final; see the webhooks below."),
    ] = None
    expires_in_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_EXPIRY_SECONDS,
            description="How long the record and its result are kept once final; default, and "
            "limit: the service's own.",
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _said_without_words(cls, fields: Any) -> Any:
        """A class says what the picture shows, and what is only enlarged needs no words."""
        if isinstance(fields, dict) and "prompt" not in fields:
            said = fields.get("class_label") or (fields.get("scale") and UPSCALED)
            return {**fields, "prompt": said} if said else fields
        return fields


class ResolvedRequest(BaseModel):
    """A request with nothing left open: run it again and the same picture comes out.

    Pictures that it starts from are named by their uploads' ids, which follow from their content.

    Other versions of the service read it too. A field added later has a default that means what
    its absence meant before, and is written only where it differs from that; so a field that is
    there and unknown would change the picture, and is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    negative_prompt: str
    model: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    scheduler: str
    method: str
    output_format: OutputFormat
    bit_depth: BitDepth = 8
    quality: int | None = None
    tile_format: TileFormat = "png"
    tiles: bool = True
    metadata: bool = True
    method_options: dict[str, OptionValue] = Field(default_factory=dict)
    prompt_weighting: bool = False
    loras: list[LoraChoice] = Field(default_factory=list)
    image: str | None = None
    #: Of an upscaler: sides of the picture in sides of `image`.
    scale: int | None = None
    upscale: Upscale | None = None
    mask: str | None = None
    strength: float | None = None
    controls: list[ControlChoice] = Field(default_factory=list)
    image_prompt: ImagePrompt | None = None
    #: Number of the class, of a class-to-image model; `prompt` is its name then.
    class_label: str | None = None

    @property
    def pixels(self) -> int:
        """Pixels of the picture that the model makes."""
        return self.width * self.height

    @property
    def output_width(self) -> int:
        """Width of the result, behind the last stage."""
        return self.width * (1 if self.upscale is None else self.upscale.scale)

    @property
    def output_height(self) -> int:
        """Height of the result, behind the last stage."""
        return self.height * (1 if self.upscale is None else self.upscale.scale)

    @property
    def output_pixels(self) -> int:
        """Pixels of the result."""
        return self.output_width * self.output_height


def as_asked(request: GenerationRequest, kind: type[BaseModel]) -> dict[str, Any]:
    """The fields of a request that `kind` has too, under the same names and as they were asked for.

    What a field is has to be said where it is declared, and not again wherever it is passed on.
    """
    both = GenerationRequest.model_fields.keys() & kind.model_fields.keys()
    return {name: getattr(request, name) for name in both}
