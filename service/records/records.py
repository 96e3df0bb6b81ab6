"""The `Records` port: generations in Redis, and their place in RQ's queues."""

import builtins
import contextlib
import dataclasses
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import product
from typing import Any

from service import tracing
from service.application.ports import IdempotencyClaim, Page, WorkerInfo
from service.domain.artifacts import ArtifactKeys
from service.domain.errors import GenerationNotFound, RecordUnreadable
from service.domain.generations.events import Event, Queued, Started, status_after
from service.domain.generations.generation import Generation, Progress, Status
from service.domain.generations.queueing import serving_order
from service.domain.requests.request import PRIORITIES
from service.events.bell import CHANNEL
from service.events.codec import encode
from service.events.connection import TextClient, unavailable_when_down
from service.events.stream import events_key
from service.records import scripts
from service.records.acceptance import Acceptance, claimed
from service.records.codec import changes, from_fields
from service.records.keys import (
    ALL,
    CONDEMNED,
    ENDED,
    FINISHING,
    INDEX,
    LEASES,
    PROBE,
    QUARANTINE,
    QUEUES,
    STARTED_FROM,
    WORKERS,
    idempotency_key,
    index_key,
    job_key,
    line_key,
    queue_key,
    record_key,
    worker_key,
)
from service.records.quarantine import Quarantine
from service.records.queue import lines
from service.records.stored import StoredBytes
from service.settings import RedisSettings


class RedisRecords:
    """Generations as Redis hashes; every change of one is a single step, fenced by its attempt.

    Args:
        client: a client that answers in text, as `service.events.connection.connect` makes it.
        settings: how long records, events and idempotency keys live.

    Attributes:
        quarantine: the records that this version cannot read.
        lines: those who wait, tenant by tenant.
    """

    def __init__(self, client: TextClient, settings: RedisSettings) -> None:
        self.redis = client
        self.quarantine = Quarantine(client)
        self.lines = lines.Lines(client)
        self._settings = settings
        self._accept = Acceptance(client, settings)
        self._begin = client.register_script(scripts.BEGIN)
        self._record = client.register_script(scripts.RECORD)
        self._rejoin = client.register_script(scripts.REJOIN)
        self._tell_waiting = client.register_script(scripts.TELL_WAITING)
        self._cancel = client.register_script(scripts.CANCEL)

    def accept(self, generation: Generation, claim: IdempotencyClaim | None) -> Generation:
        """Accept one generation, as `accept_all` does."""
        return self.accept_all([generation], claim)[0]

    def accept_all(
        self, generations: Sequence[Generation], claim: IdempotencyClaim | None
    ) -> builtins.list[Generation]:
        """Record, announce and enqueue in one step, or return what the claim stands for."""
        with tracing.span("accept", None, tracing.about(generations[0])):
            traced = {"trace_context": tracing.current_context()}
            with unavailable_when_down():
                return self._accept([each.model_copy(update=traced) for each in generations], claim)

    def accepted_before(self, claim: IdempotencyClaim, tenant: str = "") -> Sequence[Generation]:
        """Those that were accepted with `claim` and still have a record."""
        with unavailable_when_down():
            return claimed(self.redis, claim, tenant)

    def get(self, generation_id: str) -> Generation:
        """One generation; raises `GenerationNotFound` or `RecordUnreadable`."""
        with unavailable_when_down():
            fields = self.redis.hgetall(record_key(generation_id))
            if not fields:
                raise GenerationNotFound(generation_id)
            try:
                return from_fields(fields | {"id": generation_id})
            except RecordUnreadable as error:
                self.quarantine.add(error)
                raise

    def list(
        self, *, status: Status | None, cursor: str | None, limit: int, tenant: str | None = None
    ) -> Page:
        """Generations, newest first; the cursor is the last id of the page before."""
        key = index_key(ALL if status is None else status, tenant or "")
        upper = "+" if cursor is None else f"({cursor}"
        with unavailable_when_down():
            ids = self.redis.zrevrangebylex(key, upper, "-", start=0, num=limit + 1)
            found = self.fetch(ids[:limit])
        return Page(found, ids[limit - 1] if len(ids) > limit else None)

    def fetch(self, ids: Iterable[str]) -> tuple[Generation, ...]:
        """Those of the generations that have a record and can be read, in the order given."""
        with unavailable_when_down(), self.redis.pipeline(transaction=False) as pipe:
            for generation_id in ids:
                pipe.hgetall(record_key(generation_id))
            found = pipe.execute()
            return tuple(self._readable(fields for fields in found if fields))

    def _readable(self, found: Iterable[dict[str, str]]) -> Iterator[Generation]:
        for fields in found:
            try:
                yield from_fields(fields)
            except RecordUnreadable as error:
                self.quarantine.add(error)

    def begin_attempt(self, generation_id: str, worker: str, at: datetime) -> Generation | None:
        """Claim the next attempt of a queued generation.

        Returns None when there is nothing to run: the id is unknown or its generation is final,
        or another worker runs it.
        """
        started = encode(Started(attempt=0, at=at, worker=worker))
        progress = Progress().model_dump_json()
        attempt = self._run(
            self._begin, generation_id, worker, started["at"], started["data"],
            "progress", progress,
        )  # fmt: skip
        return self.get(generation_id) if attempt else None

    def record(self, generation_id: str, event: Event) -> bool:
        """Append an event and move the record with it, when its attempt is the one that runs."""
        return self.record_with(generation_id, event, {})

    def record_with(self, generation_id: str, event: Event, extra: dict[str, str]) -> bool:
        """`record`, setting `extra` fields of the record in the same step."""
        told, fields = encode(event), changes(event) | extra
        written = self._run(
            self._record, generation_id, told["attempt"], told["type"], told["at"], told["data"],
            status_after(event).value, *_flat(fields),
        )  # fmt: skip
        return bool(written)

    def tell_waiting(self, generation_id: str, event: Event) -> bool:
        """Append an event of a generation that waits, and move the record with it.

        An event that says what the last one said is not repeated. Returns False, and writes
        nothing, when the generation does not wait any more.
        """
        told, fields = encode(event), changes(event)
        written = self._run(
            self._tell_waiting, generation_id, told["type"], told["at"], told["data"],
            status_after(event).value, *_flat(fields),
        )  # fmt: skip
        return bool(written)

    def rejoin(self, generation_id: str) -> bool:
        """Put back what waits and has fallen out of its line; returns whether it had."""
        return bool(self._run(self._rejoin, generation_id))

    def request_cancel(self, generation_id: str, at: datetime) -> Generation:
        """Cancel: at once when still queued, else by a mark that its worker looks for."""
        stamp = encode(Queued(attempt=0, at=at))["at"]
        if not self._run(self._cancel, generation_id, stamp):
            raise GenerationNotFound(generation_id)
        return self.get(generation_id)

    def delete(self, generation_id: str) -> None:
        """Forget a generation, its events and its idempotency key; forgetting twice is fine."""
        with unavailable_when_down():
            claim, tenant, now = self.redis.hmget(
                record_key(generation_id), "idempotency_key", "tenant", "status"
            )
            for owner in {"", tenant or ""}:
                StoredBytes(self.redis).forget(owner, generation_id)
            with self.redis.pipeline() as pipe:
                pipe.delete(record_key(generation_id), events_key(generation_id))
                pipe.delete(job_key(generation_id))
                pipe.zrem(ENDED, f"{tenant or ''}/{now}/{generation_id}")
                pipe.hdel(QUARANTINE, generation_id)
                prefix = ArtifactKeys(generation_id, 0).generation_prefix
                pipe.zadd(CONDEMNED, {prefix: time.time()}, nx=True)
                for status, owner in product((ALL, *Status), {"", tenant or ""}):
                    pipe.zrem(index_key(status, owner), generation_id)
                if claim is not None:
                    pipe.delete(idempotency_key(claim, tenant or ""))
                pipe.execute()

    def workers(self) -> tuple[WorkerInfo, ...]:
        """Workers whose heartbeat is recent, by name."""
        with unavailable_when_down():
            names = sorted(self.redis.smembers(WORKERS))
            reports = self.redis.mget(worker_key(name) for name in names) if names else []
        return tuple(_workers(zip(names, reports, strict=True)))

    def queue_depth(self, model: str) -> int:
        """Generations waiting for `model`."""
        with unavailable_when_down():
            lengths = [self.redis.llen(queue_key(model, priority)) for priority in PRIORITIES]
        return sum(lengths)

    def queue_position(self, generation: Generation) -> int | None:
        """Place of a generation in its queue, 1 for the next to run; None when it waits no more."""
        model = generation.request.model
        with unavailable_when_down():
            rank = self.redis.zrank(line_key(model, generation.tenant), generation.id)
            if rank is None:
                return None
            order = serving_order(self.lines.of([model], lines.LONG_WINDOW))
            for place, one in enumerate(order, start=1):
                if one.id == generation.id:
                    return place
        # Further back than is looked: at least all of its own before it and what was counted.
        return max(self.queue_depth(model), int(rank) + 1)

    def check_storage(self) -> None:
        """Return: only keys have limits."""

    def recent_seconds(self, model: str, limit: int) -> Sequence[float]:
        """How long those of the last `limit` succeeded generations ran that are of `model`."""
        with unavailable_when_down(), self.redis.pipeline(transaction=False) as pipe:
            for generation_id in self.redis.zrevrange(index_key(Status.SUCCEEDED), 0, limit - 1):
                pipe.hmget(record_key(generation_id), "queue", "started_at", "finished_at")
            found = pipe.execute()
        return [
            (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()
            for queue, started, finished in found
            if finished and queue.partition(":")[0] == model
        ]

    def unreadable(self) -> int:
        """How many records somebody could not read, because another version wrote them."""
        return self.quarantine.count()

    def ping(self) -> None:
        """Return when Redis takes a write; raise `Unavailable` otherwise."""
        with unavailable_when_down():
            self.redis.set(PROBE, "written by the readiness check", ex=60)

    def _run(self, script: Any, generation_id: str, *arguments: str) -> int:
        """Run one of the scripts that share their first keys and arguments."""
        keys = (
            record_key(generation_id),
            events_key(generation_id),
            INDEX,
            LEASES,
            QUEUES,
            job_key(generation_id),
            *FINISHING,
            *lines.KEYS,
            ENDED,
            QUARANTINE,
            CONDEMNED,
            STARTED_FROM,
        )
        settings = self._settings
        lives = (settings.record_ttl_seconds, settings.event_ttl_seconds)
        limits = (settings.event_limit, CHANNEL, *lives)
        with unavailable_when_down():
            return int(script(keys=keys, args=(generation_id, *limits, *arguments)))


def _flat(fields: dict[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]


def _workers(reports: Iterable[tuple[str, str | None]]) -> Iterator[WorkerInfo]:
    """What workers report, as far as it is known here: some may be of another version."""
    known = {field.name for field in dataclasses.fields(WorkerInfo)} - {"name"}
    for name, text in reports:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            report = {key: value for key, value in json.loads(text or "").items() if key in known}
            report |= {key: tuple(report[key]) for key in ("models", "warm_models")}
            yield WorkerInfo(name, **report)
