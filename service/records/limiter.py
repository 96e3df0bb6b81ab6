"""The `Limiter` port on Redis: what each key asks for, counted in one step per question.

Rates are kept by the generic cell rate algorithm (ITU-T I.371): one number per key, the time at
which everything asked for so far would be paid off at the allowed rate.
"""

import math
from collections.abc import Sequence

from service.domain.access import Allowance, Caller
from service.domain.errors import FieldViolation, InvalidRequest, RateLimited, StorageFull
from service.domain.generations.generation import Generation
from service.events.connection import TextClient, unavailable_when_down
from service.records.keys import rate_key, record_key, slots_key
from service.records.stored import StoredBytes

WINDOW_SECONDS = 60

#: A reserved place whose generation never came to be is free again after this many seconds.
_RESERVATION_SECONDS = 60

#: Nobody knows when a generation ends; a few seconds is often enough.
_RETRY_SECONDS = 5

#: Take `cost` from a rate.
#:
#:     KEYS[1] = the rate's cell
#:     ARGV[1] = seconds that one unit costs
#:     ARGV[2] = seconds of units that may be taken at once
#:     ARGV[3] = units to take
#:
#: Returns {1, seconds until everything is paid off} or {0, seconds to wait}, as texts.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local paid = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + ARGV[1] * ARGV[3]
local wait = paid - now - ARGV[2]
if wait > 0.000001 then
  return {0, string.format('%.6f', wait)}
end
redis.call('SET', KEYS[1], string.format('%.6f', paid), 'PX', math.ceil((paid - now) * 1000) + 1)
return {1, string.format('%.6f', paid - now)}
"""

#: Give `cost` back to a rate that it was taken from.
#:
#:     KEYS[1] = the rate's cell
#:     ARGV[1] = seconds that one unit costs
#:     ARGV[2] = units to give back
_RETURN = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local paid = tonumber(redis.call('GET', KEYS[1]) or now) - ARGV[1] * ARGV[2]
if paid <= now then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], string.format('%.6f', paid), 'PX', math.ceil((paid - now) * 1000) + 1)
end
"""

#: Take a place among the unfinished generations of a key; those that are final have left theirs.
#:
#:     KEYS[1] = sorted set of the generations that hold places, by the time they took them
#:     KEYS[2] = prefix of records
#:     ARGV[1] = generation id
#:     ARGV[2] = how many places there are
#:     ARGV[3] = seconds after which a place without a record is free
#:
#: Returns 1, or 0 when every place is taken.
_OCCUPY = """
local now = tonumber(redis.call('TIME')[1])
local held = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #held, 2 do
  local status = redis.call('HGET', KEYS[2] .. held[i], 'status')
  local gone = not status and now - held[i + 1] >= tonumber(ARGV[3])
  if gone or status == 'succeeded' or status == 'failed' or status == 'cancelled' then
    redis.call('ZREM', KEYS[1], held[i])
  end
end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
return 1
"""


class RedisLimiter:
    """Counts in Redis, so that every front end counts together."""

    def __init__(self, client: TextClient) -> None:
        self._redis = client
        self._take = client.register_script(_TAKE)
        self._return = client.register_script(_RETURN)
        self._occupy = client.register_script(_OCCUPY)
        self._stored = StoredBytes(client)

    def count_request(self, caller: Caller, *, reading: bool) -> Allowance | None:
        """Count a request that reads or changes something; raises `RateLimited`."""
        limits = caller.limits
        quota = limits.reads_per_minute if reading else limits.requests_per_minute
        policy = "reads" if reading else "requests"
        return None if quota is None else self._spend(caller, policy, quota, 1)

    def admit(self, caller: Caller, generations: Sequence[Generation]) -> None:
        """Reserve the pixels of generations, and places among the unfinished ones: all or none.

        Raises:
            RateLimited: there is no room now.
            StorageFull: the tenant takes all the room in the store that the key allows.
            InvalidRequest: these alone take more than there ever is.
        """
        self.check_storage(caller)
        places = caller.limits.unfinished
        quota = caller.limits.megapixels_per_minute
        megapixels = 0.0 if quota is None else _megapixels(generations, quota)
        if places is not None and len(generations) > places:
            rule = f"the key allows {places} unfinished generations"
            raise InvalidRequest([FieldViolation("n", repr(len(generations)), rule)])
        try:
            if places is not None:
                self._occupy_all(caller, generations, places)
            if quota is not None:
                self._spend(caller, "megapixels", quota, megapixels)
        except Exception:
            self._free(caller, generations)
            raise

    def release(self, caller: Caller, generations: Sequence[Generation]) -> None:
        """Give back what `admit` reserved for generations that were not accepted after all."""
        quota = caller.limits.megapixels_per_minute
        if quota is not None:
            self._give_back(caller, "megapixels", quota, _megapixels(generations, quota))
        self._free(caller, generations)

    def check_storage(self, caller: Caller) -> None:
        """Return when the caller's tenant may store more; raises `StorageFull`."""
        quota = caller.limits.stored_megabytes
        if quota is not None and (stored := self._stored.of(caller.tenant)) >= quota * 1e6:
            raise StorageFull(quota, stored)

    def _free(self, caller: Caller, generations: Sequence[Generation]) -> None:
        if caller.limits.unfinished is not None:
            with unavailable_when_down():
                self._redis.zrem(slots_key(caller.key_id), *(each.id for each in generations))

    def _give_back(self, caller: Caller, policy: str, quota: float, cost: float) -> None:
        key = rate_key(caller.key_id, policy)
        with unavailable_when_down():
            self._return(keys=(key,), args=(WINDOW_SECONDS / quota, cost))

    def _occupy_all(self, caller: Caller, generations: Sequence[Generation], places: int) -> None:
        for generation in generations:
            if not self._occupied(caller, generation, places):
                full = Allowance("unfinished", places, 0, _RETRY_SECONDS)
                raise RateLimited(full, _RETRY_SECONDS)

    def _occupied(self, caller: Caller, generation: Generation, places: int) -> bool:
        keys = (slots_key(caller.key_id), record_key(""))
        with unavailable_when_down():
            return bool(self._occupy(keys=keys, args=(generation.id, places, _RESERVATION_SECONDS)))

    def _spend(self, caller: Caller, policy: str, quota: float, cost: float) -> Allowance:
        unit = WINDOW_SECONDS / quota
        with unavailable_when_down():
            taken, seconds = self._take(
                keys=(rate_key(caller.key_id, policy),), args=(unit, WINDOW_SECONDS, cost)
            )
        if not taken:
            wait = max(1, math.ceil(float(seconds)))
            raise RateLimited(Allowance(policy, quota, 0, wait), wait)
        unpaid = float(seconds)
        remaining = math.floor((WINDOW_SECONDS - unpaid) / unit)
        return Allowance(policy, quota, max(remaining, 0), math.ceil(unpaid))


def _megapixels(generations: Sequence[Generation], quota: float) -> float:
    request = generations[0].request
    megapixels = len(generations) * request.output_pixels / 1e6
    if megapixels > quota:
        rule = f"the key allows {quota:g} megapixels a minute; {megapixels:.2f} never fit"
        alone = request.output_pixels / 1e6 > quota
        field, value = ("width", request.width) if alone else ("n", len(generations))
        raise InvalidRequest([FieldViolation(field, repr(value), rule)])
    return megapixels
