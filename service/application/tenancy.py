"""The records as one caller sees them: its tenant's own, within its key's limits.

What belongs to others is not found, in the words that are used for what never was.
"""

from datetime import datetime
from typing import Protocol

from service.application.ports import IdempotencyClaim, Page, Records, WorkerInfo
from service.domain.access import Allowance, Caller
from service.domain.errors import GenerationNotFound
from service.domain.events import Event
from service.domain.generation import Generation, Status


class Limiter(Protocol):
    """Counts what each key asks for. Raises `Unavailable` when unreachable."""

    def count_request(self, caller: Caller) -> Allowance | None:
        """Count a request that changes something, where the key has a limit on these.

        Raises:
            RateLimited: there were too many.
        """
        ...

    def admit(self, caller: Caller, generation: Generation) -> None:
        """Reserve room for a generation: its pixels, and a place among the unfinished ones.

        Raises:
            RateLimited: there is no room now.
            InvalidRequest: there never will be: the picture alone is over the limit.
        """
        ...

    def release(self, caller: Caller, generation: Generation) -> None:
        """Give back the place of a generation that was not accepted after all."""
        ...


class CallerRecords(Records):
    """The `Records` port for one caller."""

    def __init__(self, records: Records, caller: Caller, limiter: Limiter) -> None:
        self._records = records
        self._caller = caller
        self._limiter = limiter

    def accept(self, generation: Generation, claim: IdempotencyClaim | None) -> Generation:
        """Accept for the caller's tenant; an earlier one that the claim finds takes no place."""
        own = generation.model_copy(update={"tenant": self._caller.tenant})
        self._limiter.admit(self._caller, own)
        accepted = None
        try:
            accepted = self._records.accept(own, claim)
        finally:
            if accepted is None or accepted.id != own.id:
                self._limiter.release(self._caller, own)
        return accepted

    def get(self, generation_id: str) -> Generation:
        """One generation of the caller's tenant; raises `GenerationNotFound`."""
        generation = self._records.get(generation_id)
        if generation.tenant != self._caller.tenant:
            raise GenerationNotFound(generation_id)
        return generation

    def list(
        self, *, status: Status | None, cursor: str | None, limit: int, tenant: str | None = None
    ) -> Page:
        """Generations of the caller's tenant, whatever `tenant` says, newest first."""
        del tenant
        own = self._caller.tenant
        return self._records.list(status=status, cursor=cursor, limit=limit, tenant=own)

    def begin_attempt(self, generation_id: str, worker: str, at: datetime) -> Generation | None:
        """Claim an attempt at a generation of the caller's tenant."""
        self.get(generation_id)
        return self._records.begin_attempt(generation_id, worker, at)

    def record(self, generation_id: str, event: Event) -> bool:
        """Append an event to a generation of the caller's tenant."""
        self.get(generation_id)
        return self._records.record(generation_id, event)

    def request_cancel(self, generation_id: str, at: datetime) -> Generation:
        """Cancel a generation of the caller's tenant."""
        self.get(generation_id)
        return self._records.request_cancel(generation_id, at)

    def delete(self, generation_id: str) -> None:
        """Forget a generation of the caller's tenant."""
        self.get(generation_id)
        self._records.delete(generation_id)

    def workers(self) -> tuple[WorkerInfo, ...]:
        """Workers whose heartbeat is recent; they serve everybody."""
        return self._records.workers()

    def queue_depth(self, model: str) -> int:
        """Generations waiting for `model`, everybody's: it tells how long the queue is."""
        return self._records.queue_depth(model)

    def queue_position(self, generation: Generation) -> int | None:
        """Place in the queue that all tenants share."""
        return self._records.queue_position(generation)

    def ping(self) -> None:
        """Return when Redis answers."""
        self._records.ping()
