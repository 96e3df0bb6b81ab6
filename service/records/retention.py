"""The `Retained` port: records, and the list of condemned objects, in Redis."""

from collections.abc import Collection, Sequence

from service.application.generations.retention import BATCH
from service.domain.artifacts import ArtifactKeys
from service.domain.generations.generation import Generation, Status
from service.domain.requests.uploads import UPLOADS_PREFIX, owner_of
from service.events.connection import unavailable_when_down
from service.records.keys import (
    CONDEMNED,
    STARTED_FROM,
    SWEEPER,
    UPLOADS_UNTIL,
    index_key,
    record_key,
    upload_key,
)
from service.records.records import RedisRecords
from service.records.stored import StoredBytes
from service.records.uploads import read_upload

#: An upload that is in use when it expires is looked at again after this many seconds.
AGAIN_SECONDS = 600.0


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
        """Condemn these; returns those condemned for the grace period or longer."""
        if not prefixes:
            return []
        with unavailable_when_down():
            now = self._now()
            self._redis.zadd(CONDEMNED, dict.fromkeys(prefixes, now), nx=True)
            names = sorted(prefixes)
            since = self._redis.zmscore(CONDEMNED, names)
        return [
            name for name, at in zip(names, since, strict=True) if at and at <= now - grace_seconds
        ]

    def due(self, grace_seconds: float, limit: int) -> list[str]:
        """The prefixes that were condemned first, at least `grace_seconds` ago."""
        with unavailable_when_down():
            latest = self._now() - grace_seconds
            due: list[str] = self._redis.zrangebyscore(
                CONDEMNED, "-inf", latest, start=0, num=limit
            )
        return due

    def is_referred(self, prefix: str) -> bool:
        """Whether a record refers to objects under a condemned prefix after all."""
        with unavailable_when_down():
            if prefix.startswith(UPLOADS_PREFIX):
                return bool(self.find_uploads([prefix]) or self._is_started_from(prefix))
            generation_id, attempt = prefix.split("/")[1:3]
            status, current = self._redis.hmget(record_key(generation_id), "status", "attempt")
        if status is None:
            return False
        keys = ArtifactKeys(generation_id, int(attempt or 0))
        return not attempt or (attempt == current and prefix != keys.checkpoint)

    def condemn_uploads(self, limit: int) -> int:
        """Condemn uploads that have expired and that nobody starts from."""
        with unavailable_when_down():
            now = self._now()
            keys = self._redis.zrangebyscore(UPLOADS_UNTIL, "-inf", now, start=0, num=limit)
            known = self.find_uploads(keys) if keys else set()
            for key in keys:
                if key in known or self._is_started_from(key):
                    self._redis.zadd(UPLOADS_UNTIL, {key: now + AGAIN_SECONDS})
                else:
                    self._redis.zadd(CONDEMNED, {key: now}, nx=True)
                    self._redis.zrem(UPLOADS_UNTIL, key)
        return len(keys)

    def stored_bytes(self) -> int:
        """Bytes of all results and uploads."""
        return StoredBytes(self._redis).of("")

    def oldest(self, limit: int) -> list[str]:
        """Ids of the results that were accepted first."""
        with unavailable_when_down():
            ids: list[str] = self._redis.zrange(index_key(Status.SUCCEEDED), 0, limit - 1)
        return ids

    def _is_started_from(self, key: str) -> bool:
        return int(self._redis.hget(STARTED_FROM, key) or 0) > 0

    def _now(self) -> float:
        seconds, micros = self._redis.time()
        return float(seconds + micros / 1e6)

    def forget(self, prefix: str) -> None:
        """Strike condemned objects off the list."""
        with unavailable_when_down():
            self._redis.zrem(CONDEMNED, prefix)

    def take_turn(self, seconds: int) -> bool:
        """Whether it is the caller's turn to sweep: one has it every `seconds` seconds."""
        with unavailable_when_down():
            return bool(self._redis.set(SWEEPER, "1", ex=seconds, nx=True))
