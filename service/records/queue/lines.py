"""The lines of those who wait, as `service.domain.generations.queueing` has them, in Redis.

What waits is in RQ's queue of its model and priority, and in the line of its model and tenant,
ordered by rank. `hidiffusion:backlog:<model>` names the tenants that have a line, by a lower bound
of their virtual time. `hidiffusion:shares` has the virtual time of those who are ahead of the
clock; whoever is not in it stands at the clock, which is `hidiffusion:virtual-time`.

The scripts of `service.records.scripts` keep all of it in step with the records.
"""

from collections.abc import Iterable, Iterator, Sequence

from service.domain.generations.generation import Generation
from service.domain.generations.queueing import Line, Waiting, charge_of, rank_of
from service.domain.requests.request import PRIORITIES
from service.events.connection import TextClient, unavailable_when_down
from service.records.keys import (
    BACKLOG,
    CHARGES,
    LINES,
    SHARES,
    VIRTUAL_TIME,
    line_key,
    queue_key,
    record_key,
)
from service.records.queue.enqueue import Command

#: Tenants looked at, those whose turn is next, and ids of each.
TENANTS = 64
WINDOW = 32

#: Ids looked at of each tenant to tell a place in the queue.
LONG_WINDOW = 500


def line_fields(generation: Generation) -> dict[str, str]:
    """The fields of a record that the scripts keep its line by."""
    rank = rank_of(generation.created_at, generation.priority)
    charge = charge_of(generation.request, generation.weight)
    return {"rank": f"{rank:.6f}", "charge": f"{charge:.9g}"}


def join(generation: Generation) -> Iterator[Command]:
    """The commands that put `generation` into its line."""
    fields, model = line_fields(generation), generation.request.model
    yield "ZADD", line_key(model, generation.tenant), fields["rank"], generation.id
    yield "ZADD", BACKLOG + model, "NX", 0, _member(generation.tenant)
    yield "HSET", CHARGES, generation.id, fields["charge"]


#: Take an id out of its line, unless its record says that it waits.
#:
#:     KEYS[1] = record, KEYS[2] = line, KEYS[3] = backlog, KEYS[4] = charges
#:     KEYS[5...] = RQ's queues that it may be in
#:     ARGV[1] = generation id, ARGV[2] = member of the backlog
_DROP = """
if redis.call('HGET', KEYS[1], 'status') == 'queued' then
  return
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
for i = 5, #KEYS do
  redis.call('LREM', KEYS[i], 0, ARGV[1])
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[3], ARGV[2])
end
"""


class Lines:
    """Reads the lines.

    Args:
        client: a client that answers in text.
    """

    def __init__(self, client: TextClient) -> None:
        self._redis = client
        self._drop = client.register_script(_DROP)

    def drop(self, one: Waiting) -> None:
        """Take out of its line what does not wait by its record, or has none."""
        backlog, member = BACKLOG + one.model, _member(one.tenant)
        keys = (record_key(one.id), line_key(one.model, one.tenant), backlog, CHARGES)
        queues = tuple(queue_key(one.model, priority) for priority in PRIORITIES)
        with unavailable_when_down():
            self._drop(keys=(*keys, *queues), args=(one.id, member))

    def of(self, models: Sequence[str], window: int = WINDOW) -> list[Line]:
        """The lines of the tenants whose turn is next, the first `window` of each and model."""
        with unavailable_when_down():
            tenants = self._tenants(models)
            with self._redis.pipeline(transaction=False) as pipe:
                for model, tenant, _ in tenants:
                    pipe.zrange(line_key(model, tenant), 0, window - 1, withscores=True)
                found = pipe.execute()
            ids = [name for entries in found for name, _ in entries]
            charges = self._redis.hmget(CHARGES, ids) if ids else []
        charge = dict(zip(ids, charges, strict=True))
        lines: dict[str, Line] = {}
        for (model, tenant, time), entries in zip(tenants, found, strict=True):
            waiting = [
                Waiting(name, tenant, model, rank, float(charge[name] or 1.0))
                for name, rank in entries
            ]
            if tenant in lines:
                waiting += lines[tenant].waiting
            waiting.sort(key=lambda one: (one.rank, one.id))
            lines[tenant] = Line(tenant, time, tuple(waiting))
        return list(lines.values())

    def _tenants(self, models: Iterable[str]) -> list[tuple[str, str, float]]:
        """Model, tenant and virtual time of each line; bounds that are too low are corrected."""
        models = list(models)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(VIRTUAL_TIME)
            for model in models:
                pipe.zrange(BACKLOG + model, 0, TENANTS - 1, withscores=True)
            clock, *found = pipe.execute()
        bounds = [
            (model, member, bound)
            for model, entries in zip(models, found, strict=True)
            for member, bound in entries
        ]
        if not bounds:
            return []
        shares = self._redis.zmscore(SHARES, [member for _, member, _ in bounds])
        now = float(clock or 0)
        times = [max(now, float(share or 0)) for share in shares]
        with self._redis.pipeline(transaction=False) as pipe:
            for (model, member, bound), share in zip(bounds, shares, strict=True):
                if share is not None and share > bound:
                    pipe.zadd(BACKLOG + model, {member: share}, xx=True)
            if pipe.command_stack:
                pipe.execute()
        return [
            (model, member.removeprefix("@"), time)
            for (model, member, _), time in zip(bounds, times, strict=True)
        ]


def _member(tenant: str) -> str:
    return f"@{tenant}"


#: What the scripts need to know of all this: prefixes and keys, in their order.
KEYS = (LINES, BACKLOG, SHARES, VIRTUAL_TIME, CHARGES)

#: Functions of the scripts; `KEYS[10]` to `KEYS[14]` are as above.
LUA = """
local function line_of()
  local now = redis.call('HMGET', KEYS[1], 'queue', 'tenant', 'rank', 'charge')
  local model, tenant = now[1]:match('^(.*):'), '@' .. (now[2] or '')
  return KEYS[10] .. model .. ':' .. tenant, KEYS[11] .. model, tenant, now[3], now[4]
end

local function join_line()
  local line, backlog, tenant, rank, charge = line_of()
  redis.call('ZADD', line, rank or seconds(), id)
  redis.call('ZADD', backlog, 'NX', 0, tenant)
  redis.call('HSET', KEYS[14], id, charge or '1')
end

local function leave_line()
  local line, backlog, tenant = line_of()
  redis.call('ZREM', line, id)
  redis.call('HDEL', KEYS[14], id)
  if redis.call('EXISTS', line) == 0 then
    redis.call('ZREM', backlog, tenant)
  end
end

local function charge_tenant()
  local _, backlog, tenant, _, charge = line_of()
  local clock = tonumber(redis.call('GET', KEYS[13]) or 0)
  local start = math.max(clock, tonumber(redis.call('ZSCORE', KEYS[12], tenant) or 0))
  local finish = string.format('%.9f', start + tonumber(charge or 1))
  redis.call('SET', KEYS[13], string.format('%.9f', start))
  redis.call('ZADD', KEYS[12], finish, tenant)
  redis.call('ZREMRANGEBYSCORE', KEYS[12], '-inf', string.format('%.9f', start))
  redis.call('ZADD', backlog, 'XX', finish, tenant)
end
"""
