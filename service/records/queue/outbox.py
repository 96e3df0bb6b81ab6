"""Webhooks that wait for their delivery: written with the final state, struck off once delivered.

    due --claim--> RQ's queue --delivered--> forgotten
     ^                  |
     +----- again ------+---- no more attempts, or refused for good ----> dead

The sorted set `hidiffusion:webhooks:due` is the truth: ids by the time of their next attempt. A
claim moves that time on instead of removing the id, so that a delivery whose process dies is due
again by itself. Times are Redis's. What became of them is counted in the same step that says it.
"""

from dataclasses import dataclass
from typing import Any

from rq import Queue
from rq.job import Job

from service.application.ports import WebhookFigures
from service.events.connection import TextClient, unavailable_when_down
from service.records.keys import (
    WEBHOOKS_COUNTS,
    WEBHOOKS_DEAD,
    WEBHOOKS_DUE,
    WEBHOOKS_SINCE,
    record_key,
)
from service.records.queue.enqueue import SERIALIZER

#: RQ's name of the queue of deliveries.
WEBHOOK_QUEUE = "webhooks"

#: What RQ would call; `WebhookWorker` reads the id and never calls it.
_JOB_FUNCTION = "hidiffusion.webhook"

#: Names of RQ's jobs: they must not be those of the generations' own.
_JOB_PREFIX = "webhook-"

#: What waits: by the time of the next attempt, and since when.
_WAITING = (WEBHOOKS_DUE, WEBHOOKS_SINCE)

#: Ids claimed at a time.
_BATCH = 100

_NOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
"""

#: Claim what is due.
#:
#:     KEYS[1] = what is due, KEYS[2] = since when
#:     ARGV[1] = seconds until it is due again, ARGV[2] = most to claim
#:
#: Returns ids.
_CLAIM = (
    _NOW
    + """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local ids = {}
for i = 1, #due, 2 do
  redis.call('ZADD', KEYS[2], 'NX', due[i + 1], due[i])
  redis.call('ZADD', KEYS[1], now + ARGV[1], due[i])
  ids[#ids + 1] = due[i]
end
return ids
"""
)

#: Begin an attempt at one that is due.
#:
#:     KEYS[1] = what is due, KEYS[2] = since when, KEYS[3] = its record
#:     ARGV[1] = generation id, ARGV[2] = seconds until it is due again
#:
#: Returns the number of the attempt, or 0 when there is nothing to deliver.
_BEGIN = (
    _NOW
    + """
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return redis.call('HINCRBY', KEYS[3], 'webhook_attempts', 1)
"""
)

#: Say how an attempt failed, and when the next one is.
#:
#:     KEYS[1] = what is due, KEYS[2] = since when, KEYS[3] = its record
#:     KEYS[4] = what is dead, KEYS[5] = counts
#:     ARGV[1] = generation id, ARGV[2] = what went wrong
#:     ARGV[3] = seconds from now; empty: it is dead
#:
#: Returns 1, or 0 when it is not due any more.
_FAIL = (
    _NOW
    + """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('HINCRBY', KEYS[5], 'failed', 1)
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZADD', KEYS[4], now, ARGV[1])
  redis.call('HINCRBY', KEYS[5], 'dead', 1)
else
  redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
end
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('HSET', KEYS[3], 'webhook_error', ARGV[2])
end
return 1
"""
)

#: Strike one off.
#:
#:     KEYS[1] = what is due, KEYS[2] = since when, KEYS[3] = counts
#:     ARGV[1] = generation id, ARGV[2] = what is counted; empty: nothing
_STRIKE = """
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 and ARGV[2] ~= '' then
  redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
end
"""


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
        self._strike = client.register_script(_STRIKE)

    def relay(self, lease_seconds: float) -> int:
        """Put what is due into RQ's queue, where it is not yet; returns how many are due."""
        with unavailable_when_down():
            due = self._claim(keys=_WAITING, args=(lease_seconds, _BATCH))
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
        keys = (*_WAITING, record_key(generation_id))
        with unavailable_when_down():
            return int(self._begin(keys=keys, args=(generation_id, lease_seconds)))

    def postpone(self, generation_id: str, seconds: float) -> None:
        """Have one that was not tried due again after a while, if it still is."""
        with unavailable_when_down():
            now, micros = self._redis.time()
            self._redis.zadd(WEBHOOKS_DUE, {generation_id: now + micros / 1e6 + seconds}, xx=True)

    def done(self, generation_id: str) -> None:
        """Strike off what was delivered."""
        self._strike_off(generation_id, "delivered")

    def drop(self, generation_id: str) -> None:
        """Strike off what is not wanted."""
        self._strike_off(generation_id, "")

    def again(self, generation_id: str, delay_seconds: float, error: str) -> None:
        """Try it again after a while."""
        self._failed(generation_id, error, delay_seconds)

    def bury(self, generation_id: str, error: str) -> None:
        """Try it no more; the operator may."""
        self._failed(generation_id, error, "")

    def revive(self, generation_id: str) -> bool:
        """Try a dead one again, now; returns whether there was one."""
        with unavailable_when_down(), self._redis.pipeline() as pipe:
            pipe.zrem(WEBHOOKS_DEAD, generation_id)
            pipe.exists(record_key(generation_id))
            pipe.time()
            dead, exists, (now, _) = pipe.execute()
            if not (dead and exists):
                return False
            pipe.hdel(record_key(generation_id), "webhook_attempts")
            pipe.zadd(WEBHOOKS_DUE, {generation_id: now})
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
                        self._redis.zrem(WEBHOOKS_SINCE, generation_id)
                        continue
                    tries = int(fields[1] or 0)
                    found.append(Undelivered(generation_id, state, at, tries, fields[2] or ""))
        return found

    def _strike_off(self, generation_id: str, counted: str) -> None:
        with unavailable_when_down():
            self._strike(keys=(*_WAITING, WEBHOOKS_COUNTS), args=(generation_id, counted))

    def _failed(self, generation_id: str, error: str, delay_seconds: float | str) -> None:
        keys = (*_WAITING, record_key(generation_id), WEBHOOKS_DEAD, WEBHOOKS_COUNTS)
        with unavailable_when_down():
            self._fail(keys=keys, args=(generation_id, error, delay_seconds))


class RedisWebhooks:
    """The `Webhooks` port: figures of the outbox, whichever processes deliver.

    Args:
        client: a client that answers in text.
    """

    def __init__(self, client: TextClient) -> None:
        self._redis = client

    def figures(self) -> WebhookFigures:
        """How the deliveries stand."""
        with unavailable_when_down(), self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(WEBHOOKS_COUNTS)
            pipe.zcard(WEBHOOKS_DUE)
            pipe.zcard(WEBHOOKS_DEAD)
            for key in _WAITING:
                pipe.zrange(key, 0, 0, withscores=True)
            pipe.time()
            counts, waiting, dead, *oldest, (seconds, microseconds) = pipe.execute()
        now = seconds + microseconds / 1e6
        # What nobody has claimed yet is due since it is final; the rest has its own times.
        ages = (max(now - at, 0.0) for first in oldest for _, at in first)
        return WebhookFigures(
            delivered=int(counts.get("delivered", 0)),
            failed_attempts=int(counts.get("failed", 0)),
            given_up=int(counts.get("dead", 0)),
            waiting=waiting,
            dead=dead,
            oldest_seconds=max(ages, default=0.0) if waiting else 0.0,
        )
