"""Events as clients see them: the domain's, with links in place of object keys."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from service.api.http import links
from service.api.http.views.schemas import ResultView, View
from service.domain.artifacts import TileRef
from service.domain.generations.events import (
    Cancelled,
    Event,
    Failed,
    Previewed,
    Queued,
    Started,
    Stepped,
    Succeeded,
    TileStored,
    WaitingForStore,
)


class _EventView(View):
    attempt: int = Field(description="The attempt it belongs to; 0 before the first.")
    at: datetime


class PreviewEvent(_EventView):
    """A small picture of the current latents is stored."""

    type: Literal["preview"] = "preview"
    step: int
    width: int
    height: int
    href: str


class TileView(View):
    """One tile; its rectangle, in pixels of its own level, includes the overlap."""

    level: int
    column: int
    row: int
    left: int
    top: int
    width: int
    height: int
    href: str

    @classmethod
    def of(cls, generation_id: str, tile: TileRef) -> "TileView":
        """The view of `tile`, linked to where its bytes are served."""
        return cls(**tile.model_dump(exclude={"key"}), href=links.tile(generation_id, tile))


class TileEvent(_EventView):
    """A tile of the pyramid is final and stored."""

    type: Literal["tile"] = "tile"
    tile: TileView
    done: int
    total: int


class SucceededEvent(_EventView):
    """The result is complete."""

    type: Literal["succeeded"] = "succeeded"
    result: ResultView


EventView = (
    Queued
    | Started
    | Stepped
    | PreviewEvent
    | TileEvent
    | WaitingForStore
    | SucceededEvent
    | Failed
    | Cancelled
)


def event_view(generation_id: str, event: Event) -> EventView:
    """The view of `event`; the kinds that hold nothing internal are their own."""
    common: dict[str, Any] = {"attempt": event.attempt, "at": event.at}
    match event:
        case Previewed():
            shown = event.model_dump(include={"step", "width", "height"})
            return PreviewEvent(**common, **shown, href=links.preview(generation_id, event.step))
        case TileStored():
            tile = TileView.of(generation_id, event.tile)
            return TileEvent(**common, tile=tile, done=event.done, total=event.total)
        case Succeeded():
            return SucceededEvent(**common, result=ResultView.of(event.manifest))
        case _:
            return event
