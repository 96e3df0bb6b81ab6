"""Webhooks that wait for their delivery: written with the final state, struck off once delivered.

    due --claim--> RQ's queue --delivered--> forgotten
     ^                  |
     +----- again ------+---- no more attempts, or refused for good ----> dead

The sorted set `hidiffusion:webhooks:due` is the truth: ids by the time of their next attempt. A
claim moves that time on instead of removing the id, so that a delivery whose process dies is due
again by itself. Times are Redis's.
"""

from dataclasses import dataclass
from typing import Any

from rq import Queue
from rq.job import Job

from service.events.connection import TextClient, unavailable_when_down
from service.queue.enqueue import SERIALIZER
from service.queue.keys import WEBHOOKS_DEAD, WEBHOOKS_DUE, record_key

#: RQ's name of the queue of deliveries.
WEBHOOK_QUEUE = "webhooks"

#: What RQ would call; `WebhookWorker` reads the id and never calls it.
_JOB_FUNCTION = "hidiffusion.webhook"

#: Names of RQ's jobs: they must not be those of the generations' own.
_JOB_PREFIX = "webhook-"

#: Ids claimed at a time.
_BATCH = 100

_NOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
"""

#: Claim what is due.
#:
#:     KEYS[1] = what is due
#:     ARGV[1] = seconds until it is due again, ARGV[2] = most to claim
#:
#: Returns ids.
_CLAIM = (
    _NOW
    + """
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], now + ARGV[1], id)
end
return ids
"""
)

#: Begin an attempt at one that is due.
#:
#:     KEYS[1] = what is due, KEYS[2] = its record
#:     ARGV[1] = generation id, ARGV[2] = seconds until it is due again
#:
#: Returns the number of the attempt, or 0 when there is nothing to deliver.
_BEGIN = (
    _NOW
    + """
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return redis.call('HINCRBY', KEYS[2], 'webhook_attempts', 1)
"""
)

#: Say how an attempt failed, and when the next one is.
#:
#:     KEYS[1] = where it goes on: what is due, or what is dead
#:     KEYS[2] = what is due, KEYS[3] = its record
#:     ARGV[1] = generation id, ARGV[2] = seconds from now, ARGV[3] = what went wrong
#:
#: Returns 1, or 0 when it is not due any more.
_FAIL = (
    _NOW
    + """
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('HSET', KEYS[3], 'webhook_error', ARGV[3])
end
return 1
"""
)


@dataclass(frozen=True)
class Undelivered:
    """One webhook that was not delivered yet, or never will be.

    Attributes:
        id: of the generation.
        state: `due`, or `dead`: it is not tried any more.
        at: Unix time of the next attempt, or of the last one.
        attempts: how often it was tried.
        error: what went wrong last.
    """

    id: str
    state: str
    at: float
    attempts: int
    error: str


class Outbox:
    """The webhooks that wait for their delivery.

    Args:
        client: a client that answers in text.
        connection: RQ's connection, which answers in bytes.
    """

    def __init__(self, client: TextClient, connection: Any) -> None:
        self._redis = client
        self.queue = Queue(WEBHOOK_QUEUE, connection=connection, serializer=SERIALIZER)
        self._claim = client.register_script(_CLAIM)
        self._begin = client.register_script(_BEGIN)
        self._fail = client.register_script(_FAIL)

    def relay(self, lease_seconds: float) -> int:
        """Put what is due into RQ's queue, where it is not yet; returns how many are due."""
        with unavailable_when_down():
            due = self._claim(keys=(WEBHOOKS_DUE,), args=(lease_seconds, _BATCH))
            for generation_id in due:
                job_id = _JOB_PREFIX + generation_id
                if self._redis.lpos(self.queue.key, job_id) is None:
                    self.queue.enqueue_call(_JOB_FUNCTION, args=[generation_id], job_id=job_id)
        return len(due)

    def take(self, seconds: float) -> str | None:
        """The id of the next generation in RQ's queue, or None when none comes in time."""
        with unavailable_when_down():
            taken = self._redis.blpop([self.queue.key], timeout=seconds)
            if not taken:
                return None
            job_id = str(taken[1])
            self._redis.delete(Job.key_for(job_id))
        return job_id.removeprefix(_JOB_PREFIX)

    def begin(self, generation_id: str, lease_seconds: float) -> int:
        """Begin an attempt; returns its number, or 0 when there is nothing to deliver any more."""
        keys = (WEBHOOKS_DUE, record_key(generation_id))
        with unavailable_when_down():
            return int(self._begin(keys=keys, args=(generation_id, lease_seconds)))

    def done(self, generation_id: str) -> None:
        """Strike off what was delivered, or is not wanted."""
        with unavailable_when_down():
            self._redis.zrem(WEBHOOKS_DUE, generation_id)

    def again(self, generation_id: str, delay_seconds: float, error: str) -> None:
        """Try it again after a while."""
        self._move(WEBHOOKS_DUE, generation_id, delay_seconds, error)

    def bury(self, generation_id: str, error: str) -> None:
        """Try it no more; the operator may."""
        self._move(WEBHOOKS_DEAD, generation_id, 0.0, error)

    def revive(self, generation_id: str) -> bool:
        """Try a dead one again, now; returns whether there was one."""
        with unavailable_when_down(), self._redis.pipeline() as pipe:
            pipe.zrem(WEBHOOKS_DEAD, generation_id)
            pipe.exists(record_key(generation_id))
            dead, exists = pipe.execute()
            if not (dead and exists):
                return False
            pipe.hdel(record_key(generation_id), "webhook_attempts")
            pipe.zadd(WEBHOOKS_DUE, {generation_id: 0})
            pipe.execute()
        return True

    def undelivered(self) -> list[Undelivered]:
        """All that wait and all that are dead; those whose records have ended are dropped."""
        found = []
        with unavailable_when_down():
            for state, key in (("due", WEBHOOKS_DUE), ("dead", WEBHOOKS_DEAD)):
                for generation_id, at in self._redis.zrange(key, 0, -1, withscores=True):
                    fields = self._redis.hmget(
                        record_key(generation_id), "id", "webhook_attempts", "webhook_error"
                    )
                    if fields[0] is None:
                        self._redis.zrem(key, generation_id)
                        continue
                    tries = int(fields[1] or 0)
                    found.append(Undelivered(generation_id, state, at, tries, fields[2] or ""))
        return found

    def _move(self, key: str, generation_id: str, delay_seconds: float, error: str) -> None:
        keys = (key, WEBHOOKS_DUE, record_key(generation_id))
        with unavailable_when_down():
            self._fail(keys=keys, args=(generation_id, delay_seconds, error))
