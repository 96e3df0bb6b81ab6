"""What can go wrong, as classes.

ClientError
  - UnreachableError: no answer, or the connection broke
      - UntrustedError: one side does not take the other's certificate
  - ApiError: an answer that says no, one subclass for each thing a program may do about it
  - GenerationFailedError, GenerationCancelledError: the end of a generation that was waited for
  - WaitTimeoutError, NotReadyError, DownloadCorruptedError
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from service.client.messages import Reply
from service.client.models import Generation

#: Too many requests, and what servers and proxies say while something behind them is away.
_RETRYABLE = frozenset({429, 502, 503, 504})


class ClientError(Exception):
    """Base of all that the client raises; the message is fit for people.

    Attributes:
        retryable: whether the same call may work a little later.
        retry_after: seconds that the service asks to wait before, when it does.
    """

    retryable = False
    retry_after: float | None = None


class UnreachableError(ClientError):
    """The service did not answer, or the connection to it broke."""

    retryable = True


class UntrustedError(UnreachableError):
    """One side does not take the other's certificate, or does not speak TLS at all."""

    retryable = False


@dataclass(frozen=True)
class Violation:
    """One broken rule of a request: the field, what it held, and what is allowed."""

    field: str
    value: str
    description: str


class ApiError(ClientError):
    """The service answered that it will not or cannot do it.

    Attributes:
        status: HTTP status code.
        type: stable name of the problem, such as `/problems/invalid-request`.
        reason: the same name as gRPC spells it, such as `INVALID_REQUEST`.
        detail: this occurrence, in words.
        violations: every offending field of an invalid request.
        request_id: quote it in reports.
    """

    def __init__(self, status: int, headers: Mapping[str, str], problem: Mapping[str, Any]) -> None:
        self.status = status
        self.type = str(problem.get("type", "about:blank"))
        self.reason = str(problem.get("reason", ""))
        self.detail = str(problem.get("detail", f"HTTP status {status}"))
        self.violations = tuple(
            Violation(str(each["field"]), str(each["value"]), str(each["description"]))
            for each in problem.get("errors") or ()
        )
        self.request_id = str(problem.get("request_id", headers.get("x-request-id", "")))
        self.retry_after = _retry_after(headers.get("retry-after"))
        self.retryable = status in _RETRYABLE and headers.get("x-should-retry") != "false"
        lines = [self.detail]
        lines += [
            f"  {each.field}: {each.value} is not allowed, {each.description}"
            for each in self.violations
        ]
        super().__init__("\n".join(lines))


class InvalidRequestError(ApiError):
    """The request breaks a rule; `violations` says which."""


class UnauthenticatedError(ApiError):
    """The service asks for an API key, and this is none that it knows."""


class PermissionDeniedError(ApiError):
    """The API key does not allow this."""


class NotFoundError(ApiError):
    """There is no such generation, artifact or upload."""


class ConflictError(ApiError):
    """The request contradicts the present state."""


class IdempotencyError(ApiError):
    """The idempotency key came before, with another request."""


class RateLimitedError(ApiError):
    """The API key has asked for too much; `retry_after` says for how long to stop."""


class StorageFullError(ApiError):
    """Stored results and uploads take all the room that the API key has."""


class UnavailableError(ApiError):
    """A dependency of the service is away for the moment."""


class ServerFailedError(ApiError):
    """The service failed; `request_id` leads its operator to the cause."""


class WaitTimeoutError(ClientError):
    """The generation was not final in time; it goes on."""


class NotReadyError(ClientError):
    """The generation is not final yet, so there is no picture."""


class DownloadCorruptedError(ClientError):
    """What arrived is not what the service has, twice."""


class GenerationFailedError(ClientError):
    """The generation failed; `generation.error` says why."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        error = generation.error
        self.retryable = error is not None and error.retryable
        super().__init__(f"generation {generation.id} failed: {error.detail if error else ''}")


class GenerationCancelledError(ClientError):
    """The generation was cancelled."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        super().__init__(f"generation {generation.id} was cancelled")


_BY_TYPE: dict[str, type[ApiError]] = {
    "/problems/invalid-request": InvalidRequestError,
    "/problems/malformed-request": InvalidRequestError,
    "/problems/body-too-large": InvalidRequestError,
    "/problems/unsupported-media-type": InvalidRequestError,
    "/problems/range-not-satisfiable": InvalidRequestError,
    "/problems/not-found": NotFoundError,
    "/problems/generation-not-found": NotFoundError,
    "/problems/artifact-not-found": NotFoundError,
    "/problems/upload-not-found": NotFoundError,
    "/problems/method-not-allowed": InvalidRequestError,
    "/problems/unknown-host": InvalidRequestError,
    "/problems/conflict": ConflictError,
    "/problems/idempotency-key-reused": IdempotencyError,
    "/problems/unauthenticated": UnauthenticatedError,
    "/problems/permission-denied": PermissionDeniedError,
    "/problems/rate-limited": RateLimitedError,
    "/problems/storage-full": StorageFullError,
    "/problems/unavailable": UnavailableError,
    "/problems/record-unreadable": UnavailableError,
    "/problems/store-error": ServerFailedError,
    "/problems/internal": ServerFailedError,
}


def error_of(reply: Reply) -> ApiError | None:
    """The error that an answer tells of, or None when it is a good one."""
    if 200 <= reply.status < 300:
        return None
    try:
        problem = json.loads(reply.content)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    kind = _BY_TYPE.get(str(problem.get("type")), ApiError)
    return kind(reply.status, reply.headers, problem)


def _retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header: a number, or a date (RFC 9110, section 10.2.3)."""
    if header is None:
        return None
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())
