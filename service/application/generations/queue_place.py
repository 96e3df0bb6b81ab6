"""Where a queued generation stands, and how long it is likely to stay there."""

from dataclasses import dataclass
from statistics import median

from service.application.ports import Records
from service.domain.generations.generation import Generation, Status

#: Finished generations that an estimate looks back on.
RECENT = 20


@dataclass(frozen=True)
class QueuePlace:
    """A place in a model's queue.

    Attributes:
        position: 1 for the generation that runs next.
        estimated_wait_seconds: until it begins; None when no worker or no finished generation of
            the model is there to tell.
    """

    position: int
    estimated_wait_seconds: float | None


def queue_place(records: Records, generation: Generation) -> QueuePlace | None:
    """The place of `generation`, or None when it waits no more."""
    if generation.status is not Status.QUEUED:
        return None
    position = records.queue_position(generation)
    if position is None:
        return None
    return QueuePlace(position, _estimated_wait(records, generation.request.model, position))


def _estimated_wait(records: Records, model: str, position: int) -> float | None:
    """Each worker takes one generation per median duration, and is half-way through one now."""
    workers = sum(model in worker.models for worker in records.workers())
    if not workers or not (seconds := records.recent_seconds(model, RECENT)):
        return None
    return median(seconds) * (position - 0.5) / workers
