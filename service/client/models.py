"""What the service answers, as classes.

Fields that a newer service adds are kept as they come, so an older client reads its answers too.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.domain.artifacts import PyramidLevel
from service.domain.generations.generation import Failure, Progress, Status
from service.domain.requests.request import ClientMetadata, Priority, ResolvedRequest


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Artifact(_Answer):
    """One stored picture: its path, media type, length in bytes, and SHA-256 in hexadecimal."""

    href: str
    media_type: str
    bytes: int
    sha256: str


class Pyramid(_Answer):
    """The Deep Zoom pyramid; `tile_size` and `overlap` in pixels."""

    href: str
    tile_size: int
    overlap: int
    format: str
    levels: tuple[PyramidLevel, ...]


class Result(_Answer):
    """What a generation that succeeded left; `width` and `height` in pixels."""

    width: int
    height: int
    image: Artifact
    thumbnail: Artifact
    pyramid: Pyramid | None = None
    recipe: dict[str, Any]


class QueuePlace(_Answer):
    """Where a queued generation stands: 1 is the next to run."""

    position: int
    estimated_wait_seconds: float | None


class Generation(_Answer):
    """The record of one generation; `request` is what runs, with every default filled in."""

    id: str
    status: Status
    request: ResolvedRequest
    priority: Priority = "normal"
    client_metadata: ClientMetadata = Field(default_factory=dict)
    attempt: int
    progress: Progress
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    result: Result | None
    error: Failure | None
    queue: QueuePlace | None = None


class GenerationPage(_Answer):
    """Some generations, newest first; `next_cursor` is None on the last page."""

    generations: tuple[Generation, ...]
    next_cursor: str | None


class Batch(_Answer):
    """Several generations that were accepted together."""

    generations: tuple[Generation, ...]


class Model(_Answer):
    """One model, its limits and defaults; sizes in pixels."""

    name: str
    title: str
    kind: str = "text-to-image"
    scales: tuple[int, ...] = ()
    size_multiple: int = 8
    native_size: int
    min_size: int
    max_size: int
    default_size: int
    default_steps: int
    default_guidance_scale: float
    default_scheduler: str
    default_method: str
    schedulers: tuple[str, ...]
    methods: tuple[str, ...]
    warm_workers: int
    queued: int


class ModelList(_Answer):
    """Every model on offer; the first is the default."""

    models: tuple[Model, ...]


class Upload(_Answer):
    """A picture that was uploaded; `id` is its name in requests."""

    id: str
    width: int
    height: int
    bytes: int
    created_at: datetime
    expires_at: datetime


class Event(_Answer):
    """Something that happened to a generation.

    Attributes:
        id: its place in the stream; events after it follow with `after=id`.
        type: `queued`, `started`, `step`, `preview`, `tile`, `waiting_for_store`, and at the end
            one of `succeeded`, `failed` and `cancelled`.
        attempt: the attempt it belongs to; 0 before the first.
        at: when.
    """

    id: str
    type: str
    attempt: int
    at: datetime

    @property
    def final(self) -> bool:
        """Whether nothing follows it: a final event is named after the status it leads to."""
        return self.type in _FINAL


class StepEvent(Event):
    """A denoising step is done; `eta_seconds` is what is left of the denoising."""

    step: int
    total: int
    eta_seconds: float


class PreviewEvent(Event):
    """A small picture of the current latents is stored."""

    step: int
    width: int
    height: int
    href: str


class TilePlace(_Answer):
    """One tile; its rectangle, in pixels of its own level, includes the overlap."""

    level: int
    column: int
    row: int
    left: int
    top: int
    width: int
    height: int
    href: str


class TileEvent(Event):
    """A tile of the pyramid is final and stored; it is number `done` of `total`."""

    tile: TilePlace
    done: int
    total: int


class SucceededEvent(Event):
    """The result is complete."""

    result: Result


class FailedEvent(Event):
    """No further attempt will be made."""

    error: Failure


class Tile(TilePlace):
    """A tile with its bytes, a picture in the request's `tile_format`."""

    attempt: int
    done: int
    total: int
    data: bytes


_FINAL = frozenset(status.value for status in Status if status.final)
_BY_TYPE: dict[str, type[Event]] = {
    "step": StepEvent,
    "preview": PreviewEvent,
    "tile": TileEvent,
    "succeeded": SucceededEvent,
    "failed": FailedEvent,
}


def event_of(event_id: str, fields: dict[str, Any]) -> Event:
    """The event of its kind; kinds that this client does not know are plain `Event`s."""
    kind = _BY_TYPE.get(str(fields.get("type")), Event)
    return kind.model_validate(fields | {"id": event_id})
