"""What happens to a generation, told in the past tense as one tagged union.

A generation's stream begins with `queued` and ends with exactly one of `succeeded`, `failed` or
`cancelled`. `started` may come again after a crash, with the next attempt number; everything that
follows it belongs to that attempt.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from service.domain.artifacts import Manifest, TileRef
from service.domain.generations.generation import Failure, Progress, Status

_T = TypeVar("_T")


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    attempt: int
    at: datetime


class Queued(_Event):
    """Accepted and waiting; attempt 0, or the attempt that was lost when it waits again.

    `reason` says why it waits again; it is empty at acceptance.
    """

    type: Literal["queued"] = "queued"
    reason: str = ""


class Started(_Event):
    """A worker has begun an attempt."""

    type: Literal["started"] = "started"
    worker: str


class Stepped(_Event):
    """A denoising step is done; `eta_seconds` estimates what is left of the denoising."""

    type: Literal["step"] = "step"
    step: int
    total: int
    eta_seconds: float


class Previewed(_Event):
    """A small picture of the current latents was stored under `key`."""

    type: Literal["preview"] = "preview"
    step: int
    key: str
    width: int
    height: int


class TileStored(_Event):
    """A tile of the pyramid is final and stored."""

    type: Literal["tile"] = "tile"
    tile: TileRef
    done: int
    total: int


class WaitingForStore(_Event):
    """The object store does not take what is finished; it is kept and handed in later.

    `reason` is `STORE_UNAVAILABLE` or `STORE_ERROR` (it refuses: denied, full, misconfigured).
    """

    type: Literal["waiting_for_store"] = "waiting_for_store"
    reason: str


class Succeeded(_Event):
    """The result is complete: its manifest is stored."""

    type: Literal["succeeded"] = "succeeded"
    manifest: Manifest


class Failed(_Event):
    """No further attempt will be made."""

    type: Literal["failed"] = "failed"
    error: Failure


class Cancelled(_Event):
    """Stopped at a client's request."""

    type: Literal["cancelled"] = "cancelled"


Event = Annotated[
    Queued
    | Started
    | Stepped
    | Previewed
    | TileStored
    | WaitingForStore
    | Succeeded
    | Failed
    | Cancelled,
    Field(discriminator="type"),
]

EVENT_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)

_STATUS: dict[str, Status] = {
    "queued": Status.QUEUED,
    "started": Status.RUNNING,
    "step": Status.RUNNING,
    "preview": Status.RUNNING,
    "tile": Status.RUNNING,
    "waiting_for_store": Status.RUNNING,
    "succeeded": Status.SUCCEEDED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
}


def status_after(event: Event) -> Status:
    """The status a generation has once `event` has happened."""
    return _STATUS[event.type]


def progress_after(event: Event) -> Progress | None:
    """The progress that `event` reports, or None when it says nothing of progress."""
    match event:
        case Stepped():
            return Progress(phase="denoising", step=event.step, total=event.total)
        case TileStored():
            return Progress(phase="decoding", step=event.done, total=event.total)
        case WaitingForStore():
            return Progress(phase="waiting_for_store", reason=event.reason)
        case Queued() | Started():
            return Progress()
        case Succeeded():
            return Progress(phase="done", step=1, total=1)
        case _:
            return None


@dataclass(frozen=True)
class StoredEvent:
    """An event with its place in the stream; the id orders it and lets a client resume after it."""

    id: str
    event: Event
    _made: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def made(self, name: str, make: Callable[[], _T]) -> _T:
        """What `make` makes of it, under a name: made once, and shared by all who watch."""
        if name not in self._made:
            self._made[name] = make()
        made: _T = self._made[name]
        return made
