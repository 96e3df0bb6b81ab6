"""The `Retained` port: records, and the list of condemned objects, in Redis."""

from collections.abc import Collection, Sequence

from service.application.retention import BATCH
from service.domain.generation import Generation, Status
from service.domain.uploads import owner_of
from service.events.connection import unavailable_when_down
from service.records.keys import CONDEMNED, SWEEPER, index_key, upload_key
from service.records.records import RedisRecords
from service.records.uploads import read_upload


class RedisRetained:
    """Records and condemned objects; times are Redis's, so the sweepers' clocks do not matter.

    Args:
        records: where the records are.
    """

    def __init__(self, records: RedisRecords) -> None:
        self._records = records
        self._redis = records.redis

    def find(self, generation_ids: Sequence[str]) -> dict[str, Generation]:
        """Those of the generations that still have a record."""
        with unavailable_when_down():
            found = self._records.fetch(generation_ids)
        return {generation.id: generation for generation in found}

    def find_uploads(self, keys: Sequence[str]) -> set[str]:
        """Those of the object keys that the record of an upload refers to."""
        owners = [owner_of(key) for key in keys]
        with unavailable_when_down():
            texts = self._redis.mget(upload_key(upload, tenant) for tenant, upload in owners)
        found = (read_upload(text) for text in texts)
        return {upload.key for upload in found if upload}.intersection(keys)

    def inputs_in_use(self) -> set[str]:
        """Object keys of the pictures that unfinished generations start from."""
        used: set[str] = set()
        with unavailable_when_down():
            for status in (Status.QUEUED, Status.RUNNING):
                ids = self._redis.zrange(index_key(status), 0, -1)
                for start in range(0, len(ids), BATCH):
                    for generation in self._records.fetch(ids[start : start + BATCH]):
                        used |= set(generation.inputs.values())
        return used

    def delete(self, generation_id: str) -> None:
        """Forget a final generation, its events and its idempotency key."""
        self._records.delete(generation_id)

    def condemn(self, prefixes: Collection[str], grace_seconds: float) -> list[str]:
        """Condemn these and only these; returns those condemned for the grace period or longer."""
        with unavailable_when_down():
            seconds, micros = self._redis.time()
            now = seconds + micros / 1e6
            pardoned = set(self._redis.zrange(CONDEMNED, 0, -1)).difference(prefixes)
            with self._redis.pipeline() as pipe:
                if pardoned:
                    pipe.zrem(CONDEMNED, *pardoned)
                if prefixes:
                    pipe.zadd(CONDEMNED, dict.fromkeys(prefixes, now), nx=True)
                pipe.zrangebyscore(CONDEMNED, "-inf", now - grace_seconds)
                due: list[str] = pipe.execute()[-1]
        return due

    def forget(self, prefix: str) -> None:
        """Strike condemned objects off the list."""
        with unavailable_when_down():
            self._redis.zrem(CONDEMNED, prefix)

    def take_turn(self, seconds: int) -> bool:
        """Whether it is the caller's turn to sweep: one has it every `seconds` seconds."""
        with unavailable_when_down():
            return bool(self._redis.set(SWEEPER, "1", ex=seconds, nx=True))
