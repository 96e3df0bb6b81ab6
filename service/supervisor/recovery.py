"""Find what dead workers left behind, and bring it back; forget what has ended.

One process of the cluster does it (`service.supervisor.housekeeping`), step by step. What is
silent and what has ended is found by indexes, so it costs what changed. The *audit* goes through
all records, a few at each step, and finds what should not be: what waits and is in no line, as an
older version leaves it, and what an index has forgotten.
"""

import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime

import redis

from service.domain.generations.generation import Status
from service.events.connection import unavailable_when_down
from service.records.attempts import Attempts
from service.records.keys import (
    ALL,
    CONDEMNED,
    ENDED,
    LEASES,
    WORKERS,
    index_key,
    record_key,
    worker_key,
)
from service.telemetry import bind_generation

_log = logging.getLogger(__name__)

#: Records that ended, and records audited, in one step.
BATCH = 500


#: Note when records end, of those that are still there: some may be deleted by now.
#:
#:     KEYS[1] = what has ended, by the time at which its record does
#:     KEYS[2...] = records
#:     ARGV[1...] = for each record its member of `KEYS[1]`, and the time
_NOTE_ENDS = """
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('ZADD', KEYS[1], 'NX', ARGV[2 * i - 2], ARGV[2 * i - 3])
  end
end
"""


class Recovery:
    """Repeated steps over what runs, what waits and what has ended.

    Only silence that two steps in a row find is acted on: a worker that comes back together with
    Redis gets one interval to show itself.

    Args:
        attempts: the running attempts.
        silence_seconds: an attempt without a sign of life for this long is suspect.
    """

    def __init__(self, attempts: Attempts, silence_seconds: float) -> None:
        self._attempts = attempts
        self._redis = attempts.records.redis
        self._silence_seconds = silence_seconds
        self._note_end = self._redis.register_script(_NOTE_ENDS)
        self._silent: set[str] = set()
        self._audited = ""

    def sweep(self) -> None:
        """One step; raises `Unavailable` when Redis does not answer."""
        with unavailable_when_down():
            silent = set(self._attempts.silent(self._silence_seconds))
            for generation_id in sorted(silent & self._silent):
                with _one_by_itself(generation_id):
                    self._give_up(generation_id)
            self._silent = silent
            self._prune()
            self._audit()
            self._forget_workers()

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

    def _prune(self) -> None:
        """Take what has ended out of the indexes, and condemn what it left in the store."""
        now, _ = self._redis.time()
        ended = self._redis.zrangebyscore(ENDED, "-inf", now, start=0, num=BATCH)
        ids = [member.rpartition("/")[2] for member in ended]
        with self._redis.pipeline(transaction=False) as pipe:
            for generation_id in ids:
                pipe.pttl(record_key(generation_id))
            left = pipe.execute()
        with self._redis.pipeline(transaction=False) as pipe:
            for member, generation_id, milliseconds in zip(ended, ids, left, strict=True):
                if milliseconds > 0:  # Redis expires a little later than it says
                    pipe.zadd(ENDED, {member: now + milliseconds / 1000 + 1}, xx=True)
                    continue
                tenant, status, _ = member.split("/")
                for index in (ALL, status):
                    for owner in {"", tenant}:
                        pipe.zrem(index_key(index, owner), generation_id)
                pipe.zadd(CONDEMNED, {f"generations/{generation_id}/": now}, nx=True)
                pipe.zrem(ENDED, member)
            pipe.execute()

    def _audit(self) -> None:
        """Look at the next records, whatever is known of them."""
        lower = f"({self._audited}" if self._audited else "-"
        ids = self._redis.zrangebylex(index_key(ALL), lower, "+", start=0, num=BATCH)
        self._audited = ids[-1] if len(ids) == BATCH else ""
        with self._redis.pipeline(transaction=False) as pipe:
            for generation_id in ids:
                pipe.hmget(record_key(generation_id), "status", "tenant")
                pipe.pttl(record_key(generation_id))
            found = pipe.execute()
        by_status: dict[str | None, list[tuple[str, str, int]]] = defaultdict(list)
        for generation_id, (status, tenant), left in zip(ids, found[::2], found[1::2], strict=True):
            by_status[status].append((generation_id, tenant or "", left))
        self._forget([generation_id for generation_id, *_ in by_status.pop(None, ())])
        for generation_id, *_ in by_status.pop(Status.QUEUED, ()):
            with _one_by_itself(generation_id):
                if self._attempts.records.rejoin(generation_id):
                    _log.warning("%s waits and was in no line; it is again", generation_id)
        by_status.pop(Status.RUNNING, None)
        now, _ = self._redis.time()
        ending = [
            (record_key(generation_id), f"{tenant}/{status}/{generation_id}", now + left / 1000 + 1)
            for status, members in by_status.items()
            for generation_id, tenant, left in members
        ]
        if ending:
            keys, members, times = zip(*ending, strict=True)
            told = [each for pair in zip(members, times, strict=True) for each in pair]
            self._note_end(keys=(ENDED, *keys), args=told)

    def _forget(self, ids: list[str]) -> None:
        """Take out of the indexes what has no record; whose it was is not known any more."""
        if ids:
            for index in (ALL, *Status):
                self._redis.zrem(index_key(index), *ids)

    def _forget_workers(self) -> None:
        names = sorted(self._redis.smembers(WORKERS))
        reports = self._redis.mget(worker_key(name) for name in names) if names else []
        if gone := [name for name, text in zip(names, reports, strict=True) if text is None]:
            self._redis.srem(WORKERS, *gone)


@contextlib.contextmanager
def _one_by_itself(generation_id: str) -> Iterator[None]:
    """A record that cannot be dealt with is told of, and does not stop what is done to others."""
    try:
        yield
    except (ValueError, TypeError, redis.ResponseError):
        _log.exception("%s cannot be looked after", generation_id)
