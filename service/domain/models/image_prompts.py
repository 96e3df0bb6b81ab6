"""Pictures as prompts, by an IP-Adapter: what a deployment offers, and what a request takes."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.domain.errors import FieldViolation

MAX_IMAGE_PROMPT_SCALE = 2.0

#: The field that names the picture.
PICTURE_FIELD = "image_prompt.image"


class IpAdapter(BaseModel):
    """The IP-Adapter of a model of the catalogue, as `load_ip_adapter` finds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Folder (relative to the catalogue file) or hub id.
    source: str
    #: Folder of the weights within the source.
    subfolder: str = ""
    #: Name of the file with the weights.
    file: str
    #: Folder of the encoder of pictures within `subfolder`, or, with a slash, within the source.
    image_encoder: str = "image_encoder"


class ImagePrompt(BaseModel):
    """A picture that says what to draw beside the words, and how much it has to say."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: Annotated[
        str,
        Field(
            min_length=1,
            description="The picture, given in the ways of a request's `image`; in a record, the "
            "upload's id.",
        ),
    ]
    scale: Annotated[
        float,
        Field(
            ge=0,
            le=MAX_IMAGE_PROMPT_SCALE,
            allow_inf_nan=False,
            description="0: nothing; 1: as it was trained; up to 2.",
        ),
    ] = 1.0


def image_prompt_violations(
    prompt: ImagePrompt | None, model: str, offered: IpAdapter | None
) -> Iterator[FieldViolation]:
    """Refuse a picture as a prompt where the model has no IP-Adapter."""
    if prompt is not None and offered is None:
        rule = f"{model} takes no picture as a prompt; leave it out"
        yield FieldViolation("image_prompt", repr(prompt.image), rule)
