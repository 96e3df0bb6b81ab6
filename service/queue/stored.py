"""How many bytes of results each tenant has in the store, kept in step with the records.

The script that makes a generation succeed adds its bytes. Records expire by themselves, so each
result is also listed by the time it ends; whoever asks for the total takes off what has ended.
"""

from service.events.connection import TextClient, unavailable_when_down
from service.queue.keys import STORED, STORED_UNTIL

#: Take off what has ended, and those that are named.
#:
#:     KEYS[1] = bytes of each result, and `total`
#:     KEYS[2] = results by the time they end
#:     ARGV[1...] = ids that end now
#:
#: Returns the bytes that are left.
_SETTLE = """
local function take_off(id)
  redis.call('ZREM', KEYS[2], id)
  local bytes = redis.call('HGET', KEYS[1], id)
  if bytes then
    redis.call('HDEL', KEYS[1], id)
    redis.call('HINCRBY', KEYS[1], 'total', -bytes)
  end
end
local now = redis.call('TIME')[1]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
  take_off(id)
end
for _, id in ipairs(ARGV) do
  take_off(id)
end
return tonumber(redis.call('HGET', KEYS[1], 'total') or 0)
"""


class StoredBytes:
    """Bytes of results by tenant."""

    def __init__(self, client: TextClient) -> None:
        self._settle = client.register_script(_SETTLE)

    def of(self, tenant: str) -> int:
        """What the tenant's results take."""
        return self._run(tenant)

    def forget(self, tenant: str, generation_id: str) -> None:
        """Take off a result that ends before its time; doing so twice is fine."""
        self._run(tenant, generation_id)

    def _run(self, tenant: str, *ids: str) -> int:
        with unavailable_when_down():
            return int(self._settle(keys=(STORED + tenant, STORED_UNTIL + tenant), args=ids))
