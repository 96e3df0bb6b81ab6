"""Small weights on top of a model's own: what a deployment offers, and what a request takes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.domain.errors import FieldViolation

MAX_LORAS = 8
MAX_LORA_WEIGHT = 4.0


class Weights(BaseModel):
    """Where small weights lie."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    #: File or folder (relative to the catalogue file) or hub id, as diffusers' loaders take it.
    source: str
    #: Name of the file within a folder or hub repository that has several.
    file: str | None = None


class Lora(Weights):
    """A LoRA that requests can name, for one model of the catalogue."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")


class Embedding(Weights):
    """A learned word, by textual inversion: whatever prompt has it in it uses it."""

    token: str = Field(pattern=r"^\S{1,64}$")


class LoraChoice(BaseModel):
    """One LoRA of the model and how strongly it acts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: object) -> object:
        """A LoRA may be named by its name alone, and acts as it was trained."""
        return {"name": value} if isinstance(value, str) else value

    name: Annotated[
        str,
        Field(min_length=1, description="A LoRA that the model lists in `GET /v1/models`."),
    ]
    weight: Annotated[
        float,
        Field(
            ge=-MAX_LORA_WEIGHT,
            le=MAX_LORA_WEIGHT,
            allow_inf_nan=False,
            description="1: as it was trained; 0: not at all; -4 to 4.",
        ),
    ] = 1.0


def lora_violations(
    chosen: Sequence[LoraChoice], offered: Sequence[Lora]
) -> Iterator[FieldViolation]:
    """Name LoRAs that the model does not have, or that are named twice."""
    names = [lora.name for lora in offered]
    allowed = "allowed are " + ", ".join(names) if names else "this model has none; leave it out"
    for index, choice in enumerate(chosen):
        if choice.name not in names:
            yield FieldViolation(f"loras.{index}.name", repr(choice.name), allowed)
    for name, times in Counter(choice.name for choice in chosen).items():
        if times > 1:
            yield FieldViolation("loras", repr(name), "it is named twice; add the weights up")
