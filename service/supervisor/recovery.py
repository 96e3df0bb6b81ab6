"""Find what a dead worker left behind, and bring it back. Every live worker sweeps.

Two things can be left behind. A *silent* generation runs according to its record, but nobody has
renewed its lease. A *stray* waits according to its record, but RQ's queue does not hold it: its
worker died between taking it and beginning it. Sweeps of several workers may overlap: every write
is fenced, so each loss is counted once.
"""

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import product

import redis
from rq import Queue

from service.domain.errors import GenerationNotFound, RecordUnreadable
from service.domain.generation import Status
from service.events.connection import unavailable_when_down
from service.records.attempts import Attempts
from service.records.enqueue import enqueue, model_queue
from service.records.keys import ALL, LEASES, TENANTS, WORKERS, index_key, record_key, worker_key
from service.telemetry import bind_generation

_log = logging.getLogger(__name__)

#: Ids looked at per status in one sweep for records that have expired, oldest first.
PRUNE_BATCH = 100


class Recovery:
    """Repeated sweeps over what runs and what waits.

    Only what two sweeps in a row find is acted on: a worker that hands over at this very moment,
    or comes back together with Redis, gets one interval to show itself.

    Args:
        attempts: the running attempts.
        silence_seconds: an attempt without a sign of life for this long is suspect.
    """

    def __init__(self, attempts: Attempts, silence_seconds: float) -> None:
        self._attempts = attempts
        self._redis = attempts.records.redis
        self._silence_seconds = silence_seconds
        self._silent: set[str] = set()
        self._strays: set[str] = set()

    def sweep(self) -> None:
        """One round; raises `Unavailable` when Redis does not answer."""
        with unavailable_when_down():
            silent = set(self._attempts.silent(self._silence_seconds))
            for generation_id in sorted(silent & self._silent):
                self._give_up(generation_id)
            self._silent = silent
            strays = self._find_strays()
            for generation_id in sorted(strays & self._strays):
                self._bring_back(generation_id)
            self._strays = strays
            self._prune()

    def _give_up(self, generation_id: str) -> None:
        attempt = self._redis.hget(record_key(generation_id), "attempt")
        if attempt is None:
            self._redis.zrem(LEASES, generation_id)
            return
        reason = "its worker fell silent"
        event = self._attempts.lose(generation_id, int(attempt), reason, datetime.now(UTC))
        if event is not None:
            with bind_generation(generation_id, int(attempt)):
                _log.warning("the attempt fell silent; its generation is now %s", event.type)

    def _find_strays(self) -> set[str]:
        queued = set(self._redis.zrange(index_key(Status.QUEUED), 0, -1))
        queues = self._redis.smembers(Queue.redis_queues_keys)
        return queued.difference(*(self._redis.lrange(queue, 0, -1) for queue in queues))

    def _bring_back(self, generation_id: str) -> None:
        with self._redis.pipeline() as pipe:
            try:
                pipe.watch(record_key(generation_id))
                generation = self._attempts.records.get(generation_id)
                if generation.status is not Status.QUEUED:
                    return
                pipe.multi()
                model, priority = generation.request.model, generation.priority
                queue = model_queue(model, priority, self._redis)
                enqueue(pipe, generation, queue, front=True)
                pipe.execute()
            except (GenerationNotFound, RecordUnreadable, redis.WatchError):
                return  # it moved on by itself
        with bind_generation(generation_id):
            _log.warning("waiting, but missing in its queue; queued again")

    def _prune(self) -> None:
        """Drop expired records from the indexes, and silent workers from the list of workers."""
        tenants = ("", *self._redis.smembers(TENANTS))
        for status, tenant in product((ALL, *Status), tenants):
            oldest = self._redis.zrange(index_key(status, tenant), 0, PRUNE_BATCH - 1)
            if expired := self._missing(oldest, record_key):
                self._redis.zrem(index_key(status, tenant), *expired)
        if gone := self._missing(self._redis.smembers(WORKERS), worker_key):
            self._redis.srem(WORKERS, *gone)

    def _missing(self, names: Iterable[str], key_of: Callable[[str], str]) -> list[str]:
        names = list(names)
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.exists(key_of(name))
            return [name for name, exists in zip(names, pipe.execute(), strict=True) if not exists]
