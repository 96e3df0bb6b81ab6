"""Several pictures for one request: accepted together, waited for together, stopped together."""

import asyncio
import contextlib
from collections.abc import Sequence

from service.application.use_cases import UseCases
from service.application.wait import wait_until_final
from service.domain.errors import ServiceError
from service.domain.generation import MAX_SEED, Generation, GenerationRequest


def derived_seed(first: int, index: int) -> int:
    """Seed of picture `index` of a batch: the first one's plus the index, modulo 2**53."""
    return (first + index) % (MAX_SEED + 1)


class GenerateBatch:
    """Asks for `count` pictures that differ in their seed alone."""

    def __init__(self, use_cases: UseCases) -> None:
        self._use_cases = use_cases

    def submit(
        self, request: GenerationRequest, count: int, idempotency_key: str | None = None
    ) -> list[Generation]:
        """Accept `count` generations; without a key, what an error leaves behind is cancelled.

        The first picture has the seed asked for, or a drawn one; see `derived_seed` for the rest.
        With a key, the picture at index i > 0 is known by `{key}/{i}`, so repeating the call finds
        the same generations.

        Raises:
            ServiceError: as `SubmitGeneration` does.
        """
        accepted = [self._use_cases.submit(request, idempotency_key)]
        try:
            for index in range(1, count):
                seed = derived_seed(accepted[0].request.seed, index)
                one = request.model_copy(update={"seed": seed})
                key = f"{idempotency_key}/{index}" if idempotency_key else None
                accepted.append(self._use_cases.submit(one, key))
        except ServiceError:
            if idempotency_key is None:
                self.cancel(accepted)
            raise
        return accepted

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
