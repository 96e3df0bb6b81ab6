"""The calls this service makes, as OpenAPI describes them; no client can ask for these."""

from typing import Annotated, Any

from fastapi import APIRouter, Header

from service.api.http.views.webhook_views import WebhookPayload
from service.domain.webhooks import WEBHOOK_EVENTS

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Any status of the 200s means: taken. It is not sent again."},
    410: {"description": "Not wanted. It is not sent again."},
    "default": {"description": "Anything else, redirects too: it is sent again later."},
}


def describe_webhooks(router: APIRouter) -> None:
    """Add one description per event to an application's webhooks."""
    for event in WEBHOOK_EVENTS:
        router.post(
            event,
            name=event.replace(".", "_"),
            summary=f"A generation has {event.partition('.')[2]}",
            status_code=200,
            response_model=None,
            responses=_ANSWERS,
            tags=["webhooks"],
        )(_receive)


def _receive(
    payload: WebhookPayload,
    webhook_id: Annotated[str, Header(description="The same whenever it is sent again.")],
    webhook_timestamp: Annotated[int, Header(description="Unix time of this attempt.")],
    webhook_signature: Annotated[
        str,
        Header(description="`v1,` and base64 of an HMAC-SHA256; one for each secret."),
    ],
) -> None:
    """Sent when a generation with a `webhook` is final, at least once.

    Verify the signature over `id.timestamp.body` as Standard Webhooks describes, or with one of its
    libraries, and remember ids to pass over what comes twice.
    """
