"""What the use cases need from the outside world; adapters elsewhere provide it.

Every port is synchronous but `EventLog.follow`: front ends call use cases from a thread, and only
watching, which may last for minutes, is worth a coroutine.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from service.domain.generations.events import Event, StoredEvent
from service.domain.generations.generation import Generation, Status
from service.domain.models.catalog import Catalog


@dataclass(frozen=True)
class IdempotencyClaim:
    """A client's key for one logical request, and the fingerprint of that request's body."""

    key: str
    fingerprint: str


@dataclass(frozen=True)
class Page:
    """Some generations, newest first, and the cursor of the next page (None on the last)."""

    generations: tuple[Generation, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class WorkerInfo:
    """A live worker: its name, the models it serves and those it keeps warm, and its state.

    Attributes:
        pipeline_loads: pipelines loaded since it began.
        pipeline_evictions: pipelines dropped to make room for others.
        capacities: by model, the most pixels its device has memory for; where unknown, absent.
        trouble: why its pipeline process is not ready, when it has failed to become so.
    """

    name: str
    state: str
    models: tuple[str, ...]
    warm_models: tuple[str, ...]
    pipeline_loads: int
    pipeline_evictions: int = 0
    capacities: Mapping[str, int] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True)
class ObjectInfo:
    """A stored object: length in bytes, media type, entity tag and time of the last write."""

    key: str
    size: int
    media_type: str
    etag: str
    modified: datetime


class Records(Protocol):
    """The generations and their place in the queue. Raises `Unavailable` when unreachable."""

    def accept_all(
        self, generations: Sequence[Generation], claim: IdempotencyClaim | None
    ) -> list[Generation]:
        """Record, announce (`queued` event) and enqueue generations, all or nothing.

        Returns:
            The stored generations: those given, or, when `claim` was seen before with the same
            fingerprint, those accepted then that still have a record.

        Raises:
            IdempotencyMismatch: the claim's key was used with another fingerprint.
        """
        ...

    def accepted_before(self, claim: IdempotencyClaim, tenant: str = "") -> Sequence[Generation]:
        """Those that were accepted with `claim` and still have a record; none: it is free.

        Raises:
            IdempotencyMismatch: the claim's key was used with another fingerprint.
        """
        ...

    def get(self, generation_id: str) -> Generation:
        """One generation; raises `GenerationNotFound`."""
        ...

    def list(
        self, *, status: Status | None, cursor: str | None, limit: int, tenant: str | None = None
    ) -> Page:
        """Generations of one tenant (None: of all), newest first."""
        ...

    def begin_attempt(self, generation_id: str, worker: str, at: datetime) -> Generation | None:
        """Claim the next attempt: number it, set `running`, append `started`.

        Returns None when the generation is final or unknown: there is nothing to run.
        """
        ...

    def record(self, generation_id: str, event: Event) -> bool:
        """Append an event and move the record with it, in one step.

        Returns False, and writes nothing, when the event's attempt is not the current one or the
        generation is final already.
        """
        ...

    def request_cancel(self, generation_id: str, at: datetime) -> Generation:
        """Cancel: at once when still queued, else by telling the worker. Final ones stay as is.

        Raises:
            GenerationNotFound: the id is unknown.
        """
        ...

    def delete(self, generation_id: str) -> None:
        """Forget a final generation, its events and its idempotency key."""
        ...

    def workers(self) -> tuple[WorkerInfo, ...]:
        """Workers whose heartbeat is recent."""
        ...

    def queue_depth(self, model: str) -> int:
        """Generations waiting for `model`."""
        ...

    def queue_position(self, generation: Generation) -> int | None:
        """Place of a generation in its queue, 1 for the next to run; None when it waits no more."""
        ...

    def check_storage(self) -> None:
        """Return when the store has room for more of the caller's; raises `StorageFull`."""
        ...

    def recent_seconds(self, model: str, limit: int) -> Sequence[float]:
        """How long those of the last `limit` succeeded generations ran that are of `model`."""
        ...

    def unreadable(self) -> int:
        """How many records somebody could not read, because another version wrote them."""
        ...

    def ping(self) -> None:
        """Return when Redis takes a write; raise `Unavailable` otherwise."""
        ...


class EventLog(Protocol):
    """The stream of each generation. Raises `Unavailable` when unreachable."""

    def read(self, generation_id: str, after: str | None, limit: int) -> list[StoredEvent]:
        """Stored events after the id `after` (None: from the first)."""
        ...

    def follow(
        self, generation_id: str, after: str | None, idle_seconds: float
    ) -> AsyncIterator[StoredEvent | None]:
        """Stored events, then new ones as they come, ending after a final event.

        Yields None when nothing has happened for `idle_seconds`, so a caller can keep its
        connection alive.
        """
        ...


class ObjectStore(Protocol):
    """Bytes under keys. Raises `Unavailable` when unreachable, `StoreError` when it refuses."""

    def put(self, key: str, data: bytes, media_type: str) -> ObjectInfo:
        """Store `data`, replacing what was there; visible only when complete."""
        ...

    def get(self, key: str) -> bytes:
        """All bytes; raises `NotFound`."""
        ...

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` up to but not including `end`; raises `NotFound`."""
        ...

    def head(self, key: str) -> ObjectInfo:
        """What is known of an object; raises `NotFound`."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Every key that begins with `prefix`, sorted."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """The length in bytes of every object whose key begins with `prefix`, by key."""
        ...

    def delete_prefix(self, prefix: str) -> int:
        """Delete every object whose key begins with `prefix`; returns how many."""
        ...

    def presign(self, key: str, expires_seconds: int) -> str | None:
        """A URL that serves the object without credentials, where the store has such; else None."""
        ...

    def ping(self) -> None:
        """Return when the store takes a write; raise `Unavailable` or `StoreError` otherwise."""
        ...


@dataclass(frozen=True)
class WebhookFigures:
    """How the deliveries of webhooks stand.

    Attributes:
        delivered: taken by their receivers so far.
        failed_attempts: attempts that failed so far.
        given_up: webhooks that died so far.
        waiting: webhooks that wait for an attempt now.
        dead: webhooks that are not tried any more, as they are listed now.
        oldest_seconds: for how long the oldest of those that wait has waited.
    """

    delivered: int
    failed_attempts: int
    given_up: int
    waiting: int
    dead: int
    oldest_seconds: float


class Webhooks(Protocol):
    """Tells of deliveries. Raises `Unavailable` when unreachable."""

    def figures(self) -> WebhookFigures:
        """How they stand."""
        ...


class CatalogSource(Protocol):
    """Tells what models there are."""

    def __call__(self) -> Catalog:
        """The catalogue as it is now; the very same object until something changes."""
        ...


class Clock(Protocol):
    """Tells the time, in UTC."""

    def now(self) -> datetime:
        """The current time, timezone-aware."""
        ...
