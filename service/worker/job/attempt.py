"""One attempt at one generation, as the pipeline process sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.domain.artifacts import ArtifactKeys
from service.domain.generations.events import Event
from service.domain.generations.generation import Generation


class CancelSignal(BaseException):
    """The attempt is to stop. No `except Exception` between here and there may swallow it."""


@dataclass(frozen=True)
class Attempt:
    """What runs, whom to tell, and how to learn that it is no longer wanted.

    Attributes:
        generation: the record, with the attempt's number.
        emit: takes each event; may be called from any thread.
        cancelled: whether somebody wants the attempt to stop.
        suspended: whether it is to stop so that a later attempt can go on from where it stands.
        spread_keys: whether its objects are spread over the bucket's index.
    """

    generation: Generation
    emit: Callable[[Event], None]
    cancelled: Callable[[], bool]
    suspended: Callable[[], bool] = lambda: False
    spread_keys: bool = False

    @property
    def keys(self) -> ArtifactKeys:
        """Where this attempt's objects go."""
        generation = self.generation
        return ArtifactKeys(generation.id, generation.attempt, spread=self.spread_keys)

    def tell(self, kind: Callable[..., Event], **fields: Any) -> None:
        """Emit an event of a kind, stamped with the attempt's number and the time."""
        self.emit(kind(attempt=self.generation.attempt, at=datetime.now(UTC), **fields))

    def stop_if_cancelled(self) -> None:
        """Return when all is well; raise `CancelSignal` when the attempt is to stop."""
        if self.cancelled() or self.suspended():
            raise CancelSignal
