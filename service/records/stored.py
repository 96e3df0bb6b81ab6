"""How many bytes of results and uploads each tenant has in the store, in step with the records.

The scripts that make a generation succeed and that keep an upload add their bytes. Records
expire by themselves, so each is also listed by the time it ends; whoever asks for the total takes
off what has ended.
"""

from service.events.connection import TextClient, unavailable_when_down
from service.records.keys import STORED, STORED_UNTIL

#: Take off what has ended, and those that are named.
#:
#:     KEYS[1] = bytes of each result and upload, and `total`
#:     KEYS[2] = the same by the time they end
#:     ARGV[1...] = ids that end now
#:
#: Returns the bytes that are left.
_SETTLE = """
local function take_off(id)
  redis.call('ZREM', KEYS[2], id)
  local bytes = redis.call('HGET', KEYS[1], id)
  if bytes then
    redis.call('HDEL', KEYS[1], id)
    redis.call('HINCRBY', KEYS[1], 'total', string.format('%.0f', 0 - bytes))
  end
end
local now = redis.call('TIME')[1]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
  take_off(id)
end
for _, id in ipairs(ARGV) do
  take_off(id)
end
local total = tonumber(redis.call('HGET', KEYS[1], 'total') or 0)
if total == 0 and redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[1])
end
return total
"""


class StoredBytes:
    """Bytes of results and uploads by tenant."""

    def __init__(self, client: TextClient) -> None:
        self._settle = client.register_script(_SETTLE)

    def of(self, tenant: str) -> int:
        """What the tenant's results and uploads take."""
        return self._run(tenant)

    def forget(self, tenant: str, name: str) -> None:
        """Take off what ends before its time; doing so twice is fine."""
        self._run(tenant, name)

    def _run(self, tenant: str, *ids: str) -> int:
        with unavailable_when_down():
            return int(self._settle(keys=(STORED + tenant, STORED_UNTIL + tenant), args=ids))
