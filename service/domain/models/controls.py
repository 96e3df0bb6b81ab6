"""Pictures that guide the layout by a ControlNet: what a deployment offers, and a request takes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.domain.errors import FieldViolation

MAX_CONTROLS = 4
MAX_CONTROL_SCALE = 4.0


class ControlNet(BaseModel):
    """A ControlNet that requests can name, for one model of the catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    title: str = ""
    #: Folder (relative to the catalogue file) or hub id for `ControlNetModel.from_pretrained`.
    source: str


class ControlChoice(BaseModel):
    """One ControlNet of the model, what it looks at, and how much it has to say."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[
        str,
        Field(min_length=1, description="A ControlNet that the model lists in `GET /v1/models`."),
    ]
    image: Annotated[
        str,
        Field(
            min_length=1,
            description="The map that it reads (edges, depth, a pose), finished, given "
            "in the ways of a request's `image`; in a record, the upload's id.",
        ),
    ]
    scale: Annotated[
        float,
        Field(
            ge=0,
            le=MAX_CONTROL_SCALE,
            allow_inf_nan=False,
            description="What its residuals are multiplied by, 0 to 4.",
        ),
    ] = 1.0
    start: Annotated[
        float,
        Field(ge=0, le=1, allow_inf_nan=False, description="Share of the steps before it acts."),
    ] = 0.0
    end: Annotated[
        float,
        Field(
            ge=0, le=1, allow_inf_nan=False, description="Share of the steps after which it rests."
        ),
    ] = 1.0


def picture_field(index: int) -> str:
    """The field that names the picture of a request's control `index`."""
    return f"controls.{index}.image"


def control_violations(
    chosen: Sequence[ControlChoice], offered: Sequence[ControlNet]
) -> Iterator[FieldViolation]:
    """Name ControlNets that the model does not have or that are named twice, and empty parts."""
    names = [net.name for net in offered]
    allowed = "allowed are " + ", ".join(names) if names else "this model has none; leave it out"
    for index, choice in enumerate(chosen):
        if choice.name not in names:
            yield FieldViolation(f"controls.{index}.name", repr(choice.name), allowed)
        if choice.start >= choice.end:
            rule = f"it must be more than start, {choice.start:g}"
            yield FieldViolation(f"controls.{index}.end", repr(choice.end), rule)
    for name, times in Counter(choice.name for choice in chosen).items():
        if times > 1:
            yield FieldViolation("controls", repr(name), "each can be named once")
