"""Find what waits for nothing, because no live worker has memory for it. One process looks.

Such a generation is told so at once, as a `queued` event with the reason: a larger worker may be on
its way. When none has come for a while, it fails, and the failure says what would fit.
"""

import contextlib
import logging
import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from service.application.ports import WorkerInfo
from service.domain.errors import RecordUnreadable
from service.domain.generations.events import Failed, Queued
from service.domain.generations.generation import Failure
from service.domain.requests.request import ResolvedRequest
from service.records.records import RedisRecords
from service.supervisor.lobby import Lobby
from service.telemetry import bind_generation

_log = logging.getLogger(__name__)


class Unplaceable:
    """Repeated looks at what waits for any model that is served.

    Args:
        records: where the generations are.
        lobby: the queues.
        patience_seconds: how long to wait for a larger worker, since this one first noticed.
    """

    def __init__(self, records: RedisRecords, lobby: Lobby, patience_seconds: float) -> None:
        self._records = records
        self._lobby = lobby
        self._patience_seconds = patience_seconds
        self._since: dict[str, float] = {}

    def sweep(self) -> None:
        """One look; raises `Unavailable` when Redis does not answer."""
        workers = self._records.workers()
        noticed: dict[str, float] = {}
        served = sorted({model for worker in workers for model in worker.models})
        for waiting in self._lobby.waiting(served):
            largest = largest_capacity(workers, waiting.model)
            request = None if largest is None else self._lobby.request(waiting.id)
            if largest is None or request is None or request.pixels <= largest:
                continue
            noticed[waiting.id] = self._since.get(waiting.id, time.monotonic())
            with contextlib.suppress(RecordUnreadable):
                self._tell(waiting.id, request, largest, noticed[waiting.id])
        self._since = noticed

    def _tell(
        self, generation_id: str, request: ResolvedRequest, largest: int, since: float
    ) -> None:
        at, reason = datetime.now(UTC), too_large(request, largest)
        if time.monotonic() - since < self._patience_seconds:
            self._records.tell_waiting(generation_id, Queued(attempt=0, at=at, reason=reason))
            return
        error = Failure(reason="NO_WORKER_FITS", detail=reason)
        if self._records.tell_waiting(generation_id, Failed(attempt=0, at=at, error=error)):
            with bind_generation(generation_id):
                _log.warning("failed while it waited: %s", reason)


def largest_capacity(workers: Iterable[WorkerInfo], model: str) -> int | None:
    """Most pixels any live worker has memory for; None while one may have room for any number."""
    serving = [worker.capacities.get(model) for worker in workers if model in worker.models]
    known = [capacity for capacity in serving if capacity is not None]
    return max(known) if known and len(known) == len(serving) else None


def too_large(request: ResolvedRequest, largest: int) -> str:
    """Why a request does not fit, and what would."""
    side = math.isqrt(largest) // 8 * 8
    return (
        f"no live worker has memory for {request.width} x {request.height} pixels with "
        f"{request.model}; the largest that fits is {largest} pixels, such as {side} x {side}"
    )
