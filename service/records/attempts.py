"""What a worker does with a record beyond the port: signs of life, losses, and its own report."""

import json
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum

from service.application.ports import WorkerInfo
from service.domain.generations.events import Cancelled, Event, Failed, Queued
from service.domain.generations.generation import Failure
from service.events.connection import unavailable_when_down
from service.records import scripts
from service.records.codec import compact
from service.records.keys import LEASES, WORKERS, record_key, worker_key
from service.records.records import RedisRecords


class Wanted(StrEnum):
    """What is wanted of a running attempt."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    #: Another attempt took its place, or it was ended: nothing it says is heard any more.
    LOST = "lost"


class Attempts:
    """The running attempts: each holds a lease that its worker renews with every sign of life.

    Args:
        records: the records the attempts belong to.
        max_losses: attempts that may be lost before a generation fails for good.
    """

    def __init__(self, records: RedisRecords, max_losses: int) -> None:
        self.records = records
        self._redis = records.redis
        self._max_losses = max_losses
        self._touch = records.redis.register_script(scripts.TOUCH)

    def touch(self, generation_id: str, attempt: int) -> Wanted:
        """Renew the lease of an attempt, and learn whether it should go on."""
        with unavailable_when_down():
            answer = self._touch(
                keys=(record_key(generation_id), LEASES), args=(generation_id, attempt)
            )
        return Wanted(answer)

    def silent(self, seconds: float) -> list[str]:
        """Ids of running generations without a sign of life for `seconds`, by Redis's clock."""
        with unavailable_when_down():
            whole, micro = self._redis.time()
            latest = whole + micro / 1e6 - seconds
            ids: list[str] = self._redis.zrangebyscore(LEASES, "-inf", f"{latest:.6f}")
        return ids

    def lose(self, generation_id: str, attempt: int, reason: str, at: datetime) -> Event | None:
        """End an attempt that will not finish: queue it again, or fail it after too many losses.

        Returns:
            The event that was recorded, or None when the attempt was not the one that runs.
        """
        with unavailable_when_down():
            told, cancel = self._redis.hmget(
                record_key(generation_id), "losses", "cancel_requested"
            )
        losses = [*json.loads(told or "[]"), f"attempt {attempt}: {reason}"]
        if cancel == "1":
            event: Event = Cancelled(attempt=attempt, at=at)
        elif len(losses) < self._max_losses:
            event = Queued(attempt=attempt, at=at, reason=reason)
        else:
            event = Failed(attempt=attempt, at=at, error=_too_many(losses))
        written = self.records.record_with(generation_id, event, {"losses": compact(losses)})
        return event if written else None

    def report(self, info: WorkerInfo, ttl_seconds: float) -> None:
        """Say that a worker lives; the report is gone after `ttl_seconds` without another."""
        document = asdict(info)
        del document["name"]
        with unavailable_when_down(), self._redis.pipeline() as pipe:
            pipe.set(worker_key(info.name), compact(document), px=int(ttl_seconds * 1000))
            pipe.sadd(WORKERS, info.name)
            pipe.execute()

    def leave(self, name: str) -> None:
        """Take back a worker's report."""
        with unavailable_when_down(), self._redis.pipeline() as pipe:
            pipe.delete(worker_key(name))
            pipe.srem(WORKERS, name)
            pipe.execute()


def _too_many(losses: list[str]) -> Failure:
    return Failure(
        reason="ATTEMPTS_LOST",
        detail=f"{len(losses)} attempts were begun and none came to an end; " + "; ".join(losses),
    )
