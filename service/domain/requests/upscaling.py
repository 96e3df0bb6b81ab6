"""Upscaling as the second stage of a generation."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class UpscaleChoice(BaseModel):
    """What a client wants done with the picture that is drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: Annotated[str, Field(min_length=1, description="An upscaler of `GET /v1/models`.")]
    scale: Annotated[
        int | None,
        Field(ge=1, le=8, description="How many times larger; default: the most it has."),
    ] = None
    num_inference_steps: Annotated[
        int | None, Field(ge=1, le=150, description="Steps of the upscaler; default: its own.")
    ] = None


class Upscale(BaseModel):
    """The same with nothing left open."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    scale: int
    num_inference_steps: int
