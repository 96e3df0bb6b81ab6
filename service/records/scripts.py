"""The writes that must not come apart, as Lua scripts that Redis runs in one step.

Each may be sent twice, because a lost reply looks like a lost command: the second time finds the
work done and says so. None of them reads or writes JSON, because Lua's numbers would bend seeds.

All but `TOUCH` share their first arguments:

    KEYS[1] = record hash                  ARGV[1] = generation id
    KEYS[2] = event stream                 ARGV[2] = events kept per stream
    KEYS[3] = prefix of the status indexes ARGV[3] = channel of the bell
    KEYS[4] = leases                       ARGV[4] = most seconds a final record lives
                                           ARGV[5] = most seconds that its events do
    KEYS[5] = prefix of RQ's lists of waiting ids
    KEYS[6] = RQ's envelope of this id
    KEYS[7] = webhooks that are due
    KEYS[8] = prefix of the bytes that tenants have stored, KEYS[9] = prefix of when these end
    KEYS[10] to KEYS[14] = as `service.records.queue.lines` has them
    KEYS[15] = what has ended, by the time at which its record does
    KEYS[16] = quarantine                  KEYS[17] = condemned objects
    KEYS[18] = unfinished generations by the upload they use
"""

from service.records.queue.lines import LUA

_CLOCK = """
local function seconds()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end
"""

_SHARED = (
    _CLOCK
    + """
local id = ARGV[1]

local function waiting()
  return KEYS[5] .. redis.call('HGET', KEYS[1], 'queue')
end

local function move(status)
  local now = redis.call('HMGET', KEYS[1], 'status', 'tenant')
  local prefixes = {KEYS[3]}
  if now[2] and now[2] ~= '' then
    prefixes[2] = KEYS[3] .. '@' .. now[2] .. ':'
  end
  for _, prefix in ipairs(prefixes) do
    redis.call('ZREM', prefix .. now[1], id)
    redis.call('ZADD', prefix .. status, 0, id)
  end
  redis.call('HSET', KEYS[1], 'status', status)
end

%LINES%
local function set_fields(first)
  if #ARGV >= first then
    redis.call('HSET', KEYS[1], unpack(ARGV, first))
  end
end

local function append(kind, attempt, at, data)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*',
    'type', kind, 'attempt', attempt, 'at', at, 'data', data)
  redis.call('PUBLISH', ARGV[3], id)
end

local function is_final(status)
  return status == 'succeeded' or status == 'failed' or status == 'cancelled'
end

local function lifetime()
  local asked = tonumber(redis.call('HGET', KEYS[1], 'expires_in_seconds') or ARGV[4])
  return math.min(asked, tonumber(ARGV[4]))
end

local function count_stored()
  local result = redis.call('HMGET', KEYS[1], 'tenant', 'stored_bytes')
  local owners, bytes = {''}, result[2]
  if result[1] and result[1] ~= '' then
    owners[2] = result[1]
  end
  for _, owner in ipairs(bytes and owners or {}) do
    redis.call('HSET', KEYS[8] .. owner, id, bytes)
    redis.call('HINCRBY', KEYS[8] .. owner, 'total', bytes)
    redis.call('ZADD', KEYS[9] .. owner, seconds() + lifetime(), id)
  end
end

local function condemn_leftovers()
  local now = redis.call('HMGET', KEYS[1], 'attempt', 'input_keys')
  local attempt, folder = tonumber(now[1] or 0), 'generations/' .. id .. '/'
  for earlier = 1, attempt - 1 do
    redis.call('ZADD', KEYS[17], 'NX', seconds(), folder .. earlier .. '/')
  end
  if attempt > 0 then
    local checkpoint = folder .. string.format('%d', attempt) .. '/checkpoint.safetensors'
    redis.call('ZADD', KEYS[17], 'NX', seconds(), checkpoint)
  end
  for key in (now[2] or ''):gmatch('%S+') do
    if redis.call('HINCRBY', KEYS[18], key, -1) <= 0 then
      redis.call('HDEL', KEYS[18], key)
    end
  end
end

local function finish()
  redis.call('ZREM', KEYS[4], id)
  redis.call('LREM', waiting(), 0, id)
  leave_line()
  redis.call('DEL', KEYS[6])
  redis.call('HDEL', KEYS[16], id)
  if redis.call('HEXISTS', KEYS[1], 'webhook') == 1 then
    redis.call('ZADD', KEYS[7], seconds(), id)
  end
  count_stored()
  condemn_leftovers()
  local now = redis.call('HMGET', KEYS[1], 'status', 'tenant')
  local ended = (now[2] or '') .. '/' .. now[1] .. '/' .. id
  redis.call('ZADD', KEYS[15], seconds() + lifetime(), ended)
  redis.call('EXPIRE', KEYS[1], lifetime())
  redis.call('EXPIRE', KEYS[2], math.min(lifetime(), tonumber(ARGV[5])))
end
""".replace("%LINES%", LUA)
)

#: Claim a queued generation for a worker.
#:
#:     ARGV[6] = worker name
#:     ARGV[7] = time of the claim
#:     ARGV[8] = data of the `started` event
#:     ARGV[9...] = field, value, ... to set in the record
#:
#: Returns the number of the attempt, or 0 when there is nothing to claim.
BEGIN = (
    _SHARED
    + """
local now = redis.call('HMGET', KEYS[1], 'status', 'attempt', 'worker', 'started_at')
if now[1] == 'running' and now[3] == ARGV[6] and now[4] == ARGV[7] then
  return tonumber(now[2])
end
if now[1] ~= 'queued' then
  return 0
end
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
move('running')
set_fields(9)
redis.call('HSET', KEYS[1], 'worker', ARGV[6], 'started_at', ARGV[7])
redis.call('LREM', waiting(), 0, id)
leave_line()
charge_tenant()
redis.call('HDEL', KEYS[16], id)
redis.call('ZADD', KEYS[4], seconds(), id)
append('started', attempt, ARGV[7], ARGV[8])
return attempt
"""
)

#: Put back what waits by its record, and is not in its line.
#:
#: Returns 1, or 0 when it is where it should be, or waits no more.
REJOIN = (
    _SHARED
    + """
local now = redis.call('HGET', KEYS[1], 'status')
local line = now == 'queued' and line_of()
if not line or redis.call('ZSCORE', line, id) then
  return 0
end
redis.call('LREM', waiting(), 0, id)
redis.call('LPUSH', waiting(), id)
join_line()
return 1
"""
)

#: Append an event of a running attempt and move the record with it.
#:
#:     ARGV[6] = attempt, ARGV[7] = event type, ARGV[8] = event time, ARGV[9] = event data
#:     ARGV[10] = status after the event
#:     ARGV[11...] = field, value, ... to set in the record
#:
#: Returns 1, or 0 when that attempt is not the one that runs; then nothing is written.
RECORD = (
    _SHARED
    + """
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if last then
  local kind, attempt, at, data = last[2][2], last[2][4], last[2][6], last[2][8]
  if kind == ARGV[7] and attempt == ARGV[6] and at == ARGV[8] and data == ARGV[9] then
    return 1
  end
end
local now = redis.call('HMGET', KEYS[1], 'status', 'attempt')
if now[1] ~= 'running' or now[2] ~= ARGV[6] then
  return 0
end
set_fields(11)
append(ARGV[7], ARGV[6], ARGV[8], ARGV[9])
if ARGV[10] ~= 'running' then
  move(ARGV[10])
end
if is_final(ARGV[10]) then
  finish()
elseif ARGV[10] == 'queued' then
  redis.call('ZREM', KEYS[4], id)
  redis.call('LREM', waiting(), 0, id)
  redis.call('LPUSH', waiting(), id)
  join_line()
end
return 1
"""
)

#: Append an event of a generation that waits and move the record with it.
#:
#:     ARGV[6] = event type, ARGV[7] = event time, ARGV[8] = event data
#:     ARGV[9] = status after the event
#:     ARGV[10...] = field, value, ... to set in the record
#:
#: Returns 1, or 0 when it does not wait; then nothing is written.
TELL_WAITING = (
    _SHARED
    + """
local now = redis.call('HMGET', KEYS[1], 'status', 'attempt')
if now[1] ~= 'queued' then
  return 0
end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if last and last[2][2] == ARGV[6] and last[2][8] == ARGV[8] then
  return 1
end
set_fields(10)
append(ARGV[6], now[2], ARGV[7], ARGV[8])
if ARGV[9] ~= 'queued' then
  move(ARGV[9])
end
if is_final(ARGV[9]) then
  finish()
end
return 1
"""
)

#: Cancel: at once when queued, by a mark for its worker when running.
#:
#:     ARGV[6] = time of the request
#:
#: Returns 1, or 0 when the id is unknown.
CANCEL = (
    _SHARED
    + """
local now = redis.call('HMGET', KEYS[1], 'status', 'attempt')
if not now[1] then
  return 0
end
if is_final(now[1]) then
  return 1
end
redis.call('HSET', KEYS[1], 'cancel_requested', '1')
if now[1] == 'queued' then
  redis.call('HSET', KEYS[1], 'finished_at', ARGV[6])
  append('cancelled', now[2], ARGV[6], '{}')
  move('cancelled')
  finish()
end
return 1
"""
)

#: A sign of life of a running attempt, answered with what is wanted of it.
#:
#:     KEYS[1] = record hash
#:     KEYS[2] = leases
#:     ARGV[1] = generation id
#:     ARGV[2] = attempt
#:
#: Returns 'lost', 'cancel' or 'continue'.
TOUCH = (
    _CLOCK
    + """
local now = redis.call('HMGET', KEYS[1], 'status', 'attempt', 'cancel_requested')
if now[1] ~= 'running' or now[2] ~= ARGV[2] then
  return 'lost'
end
redis.call('ZADD', KEYS[2], seconds(), ARGV[1])
return now[3] == '1' and 'cancel' or 'continue'
"""
)
