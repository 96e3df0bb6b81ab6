"""Accept generations: everything that makes one up is written in one step, by one round trip."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from functools import cache, partial

from service.application.ports import IdempotencyClaim
from service.domain.errors import IdempotencyMismatch, Unavailable
from service.domain.generations.events import Queued
from service.domain.generations.generation import Generation, Status
from service.events.bell import CHANNEL
from service.events.codec import encode
from service.events.connection import TextClient
from service.events.stream import events_key
from service.records.codec import from_fields, to_fields
from service.records.keys import ALL, PROBE, STARTED_FROM, idempotency_key, index_key, record_key
from service.records.queue.enqueue import Command, entry, flat, model_queue
from service.records.queue.lines import join
from service.settings import RedisSettings
from service.telemetry import bind_generation

_log = logging.getLogger(__name__)

#: How long an acceptance waits for replicas, below the time that a command has.
_REPLICAS_MILLISECONDS = 2000

#: Run commands, unless they were run before or a claim stands for others. The hash of RQ's job is
#: made in Python; that is why they come as arguments. The first must be one that takes memory:
#: Redis refuses a script for the lack of it at its first write, and not later.
#:
#:     KEYS[1] = record of the first generation, KEYS[2] = claim, KEYS[3] = prefix of records
#:     ARGV[1] = fingerprint of the claim
#:     ARGV[2...] = for each command, how many words it has, and these
#:
#: Returns 1 when they were run, now or before, or 0 when the claim stands for other records or
#: another fingerprint.
_ACCEPT = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 1
end
local claim = KEYS[2] ~= '' and redis.call('HMGET', KEYS[2], 'fingerprint', 'id')
if claim and claim[1] then
  if claim[1] ~= ARGV[1] then
    return 0
  end
  for id in claim[2]:gmatch('[^,]+') do
    if redis.call('EXISTS', KEYS[3] .. id) == 1 then
      return 0
    end
  end
end
local at = 2
while ARGV[at] do
  local words = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return 1
"""


class Acceptance:
    """Writes what makes up an accepted generation: record, indexes, event, queue entry, claim.

    Args:
        client: a client that answers in text.
        settings: how long idempotency keys live.
    """

    def __init__(self, client: TextClient, settings: RedisSettings) -> None:
        self._redis = client
        self._settings = settings
        self._accept = client.register_script(_ACCEPT)
        # Making one takes a twentieth of the time of an acceptance.
        self._queue = cache(partial(model_queue, connection=client))

    def __call__(
        self, generations: Sequence[Generation], claim: IdempotencyClaim | None
    ) -> list[Generation]:
        """Accept all or none, or return what the claim stands for.

        A script that is sent again, because its reply was lost, finds the first record and does
        nothing.
        """
        tenant = generations[0].tenant
        key = "" if claim is None else idempotency_key(claim.key, tenant)
        keys = (record_key(generations[0].id), key, record_key(""))
        fingerprint = "" if claim is None else claim.fingerprint
        commands = self._commands(generations, claim)
        words = [word for command in commands for word in (len(command), *command)]
        with self._replicated() as client:
            while not self._accept(keys=keys, args=[fingerprint, *words], client=client):
                assert claim is not None
                if earlier := claimed(self._redis, claim, tenant):
                    return earlier
        for generation in generations:
            _log_acceptance(generation)
        return [*generations]

    @contextlib.contextmanager
    def _replicated(self) -> Iterator[TextClient]:
        """A client for writes; what was written is with as many replicas as it must be, after.

        Raises:
            Unavailable: it is not; it may be accepted all the same, and a claim tells.
        """
        wanted = self._settings.replicas
        if not wanted:
            yield self._redis
            return
        with self._redis.client() as client:
            yield client
            # A claim may stand for what was accepted a moment ago by another connection.
            client.set(PROBE, "written before replicas are waited for", ex=60)
            reached = client.wait(wanted, _REPLICAS_MILLISECONDS)
        if reached < wanted:
            raise Unavailable("redis", f"{reached} of {wanted} replicas have what was accepted")

    def _commands(
        self, generations: Sequence[Generation], claim: IdempotencyClaim | None
    ) -> Iterator[Command]:
        """What the script is to run, in this order."""
        if claim is not None:
            key = idempotency_key(claim.key, generations[0].tenant)
            ids = ",".join(each.id for each in generations)
            yield "HSET", key, "fingerprint", claim.fingerprint, "id", ids
            yield "EXPIRE", key, self._settings.idempotency_ttl_seconds
        # A claim on several is left to expire: it is not that of any one of them.
        own_key = claim.key if claim and len(generations) == 1 else None
        for generation in generations:
            yield from self._of(generation, own_key)

    def _of(self, generation: Generation, own_key: str | None) -> Iterator[Command]:
        fields = to_fields(generation)
        if own_key is not None:
            fields["idempotency_key"] = own_key
        yield "HSET", record_key(generation.id), *flat(fields)
        for tenant in {"", generation.tenant}:
            for index in (ALL, Status.QUEUED):
                yield "ZADD", index_key(index, tenant), 0, generation.id
        queued = Queued(attempt=generation.attempt, at=generation.created_at)
        yield "XADD", events_key(generation.id), "*", *flat(encode(queued))
        yield "PUBLISH", CHANNEL, generation.id
        yield from join(generation)
        for key in {*generation.inputs.values()}:
            yield "HINCRBY", STARTED_FROM, key, 1
        yield from entry(generation, self._queue(generation.request.model, generation.priority))


def claimed(client: TextClient, claim: IdempotencyClaim, tenant: str) -> list[Generation]:
    """Those that were accepted with `claim` and still have a record.

    Raises:
        IdempotencyMismatch: the claim's key was used with another fingerprint.
    """
    earlier = client.hgetall(idempotency_key(claim.key, tenant))
    if not earlier:
        return []
    if earlier["fingerprint"] != claim.fingerprint:
        raise IdempotencyMismatch(claim.key)
    found = (client.hgetall(record_key(each)) for each in earlier["id"].split(","))
    return [from_fields(fields) for fields in found if fields]


def _log_acceptance(generation: Generation) -> None:
    with bind_generation(generation.id):
        prompt = {"prompt": generation.request.prompt}
        _log.info("accepted for %s", generation.request.model, extra=prompt)
