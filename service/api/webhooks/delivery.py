"""One attempt at delivering one webhook."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import httpcore
from standardwebhooks import Webhook as Signer

from service.api.webhooks.connection import Deadline, GuardedBackend, TargetRefused
from service.domain.webhooks import Targets, split_url

USER_AGENT = "hidiffusion-webhooks/1"

#: The receiver wants no more of these (Standard Webhooks 1.0.0).
_GONE = 410


class DeliveryFailed(Exception):
    """The receiver did not take it.

    Attributes:
        for_good: whether trying again is pointless.
    """

    def __init__(self, detail: str, *, for_good: bool = False) -> None:
        super().__init__(detail)
        self.for_good = for_good


@dataclass(frozen=True)
class Envelope:
    """What is delivered: the same id and body at each attempt."""

    id: str
    url: str
    body: bytes


class Courier:
    """Signs and posts; follows no redirects and uses no proxy, so the target is the one checked.

    Args:
        targets: what may be called.
        timeout_seconds: longest that a delivery may take as a whole.
    """

    def __init__(self, targets: Targets, timeout_seconds: float) -> None:
        self._targets = targets
        self._tls = ssl.create_default_context()
        self._seconds = timeout_seconds

    def deliver(self, envelope: Envelope, secrets: Sequence[str]) -> None:
        """Post once, with a signature by each of `secrets`.

        Raises:
            DeliveryFailed: it was refused, or the answer was not one of the 200s.
        """
        if rule := self._targets.broken_rule(envelope.url):
            raise DeliveryFailed(rule)
        headers = {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            **signed(envelope, secrets, datetime.now(UTC)),
        }
        try:
            status = self._post(envelope, list(headers.items()))
        except TargetRefused as error:
            raise DeliveryFailed(str(error)) from None
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            detail = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise DeliveryFailed(detail) from None
        if not 200 <= status < 300:
            raise DeliveryFailed(f"the receiver answered {status}", for_good=status == _GONE)

    def _post(self, envelope: Envelope, headers: list[tuple[str, str]]) -> int:
        parts = split_url(envelope.url)
        assert parts is not None
        assert parts.hostname is not None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        url = httpcore.URL(scheme=parts.scheme, host=parts.hostname, port=parts.port, target=target)
        backend = GuardedBackend(self._targets, Deadline(self._seconds))
        with (
            httpcore.ConnectionPool(self._tls, network_backend=backend) as pool,
            pool.stream(
                "POST",
                url,
                headers=headers,
                content=envelope.body,
            ) as response,
        ):
            return response.status  # what it answers besides is nobody's business


def signed(envelope: Envelope, secrets: Sequence[str], at: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks 1.0.0, signed at `at` by each secret."""
    text = envelope.body.decode()
    return {
        "webhook-id": envelope.id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(
            Signer(secret).sign(envelope.id, at, text) for secret in secrets
        ),
    }
