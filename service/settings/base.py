"""What all sections of settings have in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Settings of one concern: unchanging, and nothing but what is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")
