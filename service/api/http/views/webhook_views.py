"""What a webhook's receiver gets to read."""

import json
from datetime import datetime
from typing import Self

from pydantic import Field

from service.api.http.views.schemas import GenerationView, View
from service.domain.generations.generation import Generation
from service.domain.webhooks import WEBHOOK_EVENTS, WebhookEvent

#: The parts of a result that have a link of their own.
_LINKED = ("image", "thumbnail", "pyramid")


class WebhookPayload(View):
    """One final state, in the form that Standard Webhooks recommends."""

    type: WebhookEvent
    timestamp: datetime = Field(description="When the generation became final.")
    data: GenerationView = Field(
        description="The record; its links are absolute where the service knows its public URL."
    )

    @classmethod
    def of(cls, generation: Generation) -> Self:
        """The payload of a final generation."""
        return cls(
            type=event_of(generation),
            timestamp=generation.finished_at or generation.created_at,
            data=GenerationView.of(generation),
        )

    def body(self, public_url: str) -> str:
        """The JSON to sign and send; every link begins with `public_url`."""
        document = self.model_dump(mode="json")
        data = document["data"]
        data["links"] = {name: path and public_url + path for name, path in data["links"].items()}
        if data["result"]:
            for part in filter(None, map(data["result"].get, _LINKED)):
                part["href"] = public_url + part["href"]
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def event_of(generation: Generation) -> WebhookEvent:
    """The event of a final generation."""
    return next(each for each in WEBHOOK_EVENTS if each.endswith(f".{generation.status}"))
