"""Several pictures for one request: accepted together, waited for together, stopped together."""

import asyncio
import contextlib
from collections.abc import Sequence

from service.application.generations.wait import wait_until_final
from service.application.use_cases import UseCases
from service.domain.errors import ServiceError
from service.domain.generations.generation import Generation
from service.domain.requests.request import GenerationRequest


class GenerateBatch:
    """Asks for `count` pictures that differ in their seed alone."""

    def __init__(self, use_cases: UseCases) -> None:
        self._use_cases = use_cases

    def submit(
        self, request: GenerationRequest, count: int, idempotency_key: str | None = None
    ) -> list[Generation]:
        """Accept `count` generations, all or none, as `SubmitGeneration.batch` does."""
        return self._use_cases.submit.batch(request, count, idempotency_key)

    async def wait(self, generations: Sequence[Generation], seconds: float) -> list[Generation]:
        """The records once all are final, or as they stand after `seconds`."""
        cases = self._use_cases
        waits = (wait_until_final(each, cases.watch, cases.query, seconds) for each in generations)
        return list(await asyncio.gather(*waits))

    def cancel(self, generations: Sequence[Generation]) -> None:
        """Stop what is not final yet, as far as Redis can be reached."""
        for generation in generations:
            with contextlib.suppress(ServiceError):
                self._use_cases.cancel(generation.id)
