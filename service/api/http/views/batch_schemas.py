"""Several pictures of one request: what a client sends and reads."""

from typing import Annotated

from pydantic import ConfigDict, Field

from service.api.http.views.schemas import GenerationView, View
from service.domain.requests.request import MAX_BATCH, GenerationRequest


class BatchRequest(GenerationRequest):
    """A request, and how many pictures of it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "a red guitar", "n": 4, "seed": 7}]}
    )

    n: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_BATCH,
            description="Pictures. Each has the seed of the one before plus 1, modulo 2**53.",
        ),
    ]

    @property
    def each(self) -> GenerationRequest:
        """The request without its number."""
        return GenerationRequest.model_validate(self.model_dump(exclude={"n"}, exclude_unset=True))


class BatchView(View):
    """Several generations that were accepted together, in the order of their seeds."""

    generations: tuple[GenerationView, ...]
