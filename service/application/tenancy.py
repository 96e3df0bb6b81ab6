"""The records as one caller sees them: its tenant's own, within its key's limits.

What belongs to others is not found, in the words that are used for what never was.
"""

import builtins
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from service.application.ports import IdempotencyClaim, Page, Records, WorkerInfo
from service.domain.access import Allowance, Caller, Scope
from service.domain.errors import GenerationNotFound, PermissionDenied, RecordUnreadable
from service.domain.generations.events import Event
from service.domain.generations.generation import Generation, Status


class Limiter(Protocol):
    """Counts what each key asks for. Raises `Unavailable` when unreachable."""

    def count_request(self, caller: Caller, *, reading: bool) -> Allowance | None:
        """Count a request that reads or changes something, where the key has a limit on these.

        Raises:
            RateLimited: there were too many.
        """
        ...

    def admit(self, caller: Caller, generations: Sequence[Generation]) -> None:
        """Reserve room for generations, for all or none: pixels, and places among the unfinished.

        Raises:
            RateLimited: there is no room now.
            StorageFull: the tenant takes all the room in the store that the key allows.
            InvalidRequest: there never will be: these alone are over a limit.
        """
        ...

    def check_storage(self, caller: Caller) -> None:
        """Return when the caller's tenant may store more; raises `StorageFull`."""
        ...

    def release(self, caller: Caller, generations: Sequence[Generation]) -> None:
        """Give back what was reserved for generations that were not accepted after all."""
        ...


class CallerRecords(Records):
    """The `Records` port for one caller."""

    def __init__(self, records: Records, caller: Caller, limiter: Limiter) -> None:
        self._records = records
        self._caller = caller
        self._limiter = limiter

    def accept_all(
        self, generations: Sequence[Generation], claim: IdempotencyClaim | None
    ) -> builtins.list[Generation]:
        """Accept for the caller's tenant, or return what the claim stands for at no cost.

        Two with one claim at the same moment are both admitted; the later gives back what it took.
        """
        if claim and (earlier := self.accepted_before(claim)):
            return [*earlier]
        if generations[0].priority == "high" and Scope.HIGH not in self._caller.scopes:
            raise PermissionDenied(Scope.HIGH)
        ours = {"tenant": self._caller.tenant, "weight": self._caller.limits.weight}
        own = [each.model_copy(update=ours) for each in generations]
        self._limiter.admit(self._caller, own)
        accepted: builtins.list[Generation] = []
        try:
            accepted = self._records.accept_all(own, claim)
        finally:
            if [each.id for each in accepted] != [each.id for each in own]:
                self._limiter.release(self._caller, own)
        return accepted

    def accepted_before(self, claim: IdempotencyClaim, tenant: str = "") -> Sequence[Generation]:
        """What the caller's tenant had accepted with a claim, whatever `tenant` says."""
        del tenant
        return self._records.accepted_before(claim, self._caller.tenant)

    def get(self, generation_id: str) -> Generation:
        """One generation of the caller's tenant; raises `GenerationNotFound`."""
        try:
            generation = self._records.get(generation_id)
        except RecordUnreadable as error:
            if error.tenant != self._caller.tenant:
                raise GenerationNotFound(generation_id) from None
            raise
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

    def check_storage(self) -> None:
        """Return when the caller's key allows its tenant to store more; raises `StorageFull`."""
        self._limiter.check_storage(self._caller)

    def recent_seconds(self, model: str, limit: int) -> Sequence[float]:
        """How long generations of `model` ran of late, everybody's: all share the workers."""
        return self._records.recent_seconds(model, limit)

    def unreadable(self) -> int:
        """How many records could not be read, everybody's."""
        return self._records.unreadable()

    def ping(self) -> None:
        """Return when Redis takes a write."""
        self._records.ping()
