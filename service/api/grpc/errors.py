"""The service's errors as google.rpc statuses: one table, and the details that go with each."""

from collections.abc import Iterable

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
    RequestInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc import StatusCode

from service.domain.errors import (
    Conflict,
    FieldViolation,
    IdempotencyMismatch,
    InvalidRequest,
    MalformedRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    RecordUnreadable,
    ServiceError,
    StorageFull,
    StoreError,
    Unauthenticated,
    Unavailable,
)

DOMAIN = "hidiffusion"

#: A status travels in HTTP/2 headers, of which clients take 8 KiB; the details need the room.
_MAX_MESSAGE_CHARACTERS = 1000

_CODES: dict[type[ServiceError], StatusCode] = {
    InvalidRequest: StatusCode.INVALID_ARGUMENT,
    MalformedRequest: StatusCode.INVALID_ARGUMENT,
    NotFound: StatusCode.NOT_FOUND,
    Conflict: StatusCode.FAILED_PRECONDITION,
    IdempotencyMismatch: StatusCode.INVALID_ARGUMENT,
    Unauthenticated: StatusCode.UNAUTHENTICATED,
    PermissionDenied: StatusCode.PERMISSION_DENIED,
    RateLimited: StatusCode.RESOURCE_EXHAUSTED,
    StorageFull: StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: StatusCode.UNAVAILABLE,
    RecordUnreadable: StatusCode.UNAVAILABLE,
    StoreError: StatusCode.INTERNAL,
    ServiceError: StatusCode.INTERNAL,
}


def status_of(error: ServiceError, request_id: str) -> Status:
    """The status a client is told `error` with."""
    code = next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)
    return _status(code, error.public_detail, error.reason, request_id, _details(error))


def internal_status(request_id: str) -> Status:
    """The status for what should not have happened; its cause is for the log alone."""
    message = "the service failed unexpectedly; the cause is in its log under this request id"
    return _status(StatusCode.INTERNAL, message, ServiceError.reason, request_id, ())


def _details(error: ServiceError) -> Iterable[Message]:
    match error:
        case InvalidRequest():
            yield _bad_request(error.violations)
        case IdempotencyMismatch():
            rule = "the key came before with another request; choose a new one"
            yield _bad_request([FieldViolation("idempotency_key", repr(error.key), rule)])
        case Unavailable() | RateLimited() | RecordUnreadable():
            yield RetryInfo(retry_delay=Duration(seconds=error.retry_after))


def _bad_request(violations: list[FieldViolation]) -> BadRequest:
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(
                field=violation.field,
                description=f"{violation.value} is not allowed, {violation.description}",
            )
            for violation in violations
        ]
    )


def _status(
    code: StatusCode, message: str, reason: str, request_id: str, details: Iterable[Message]
) -> Status:
    always = (ErrorInfo(reason=reason, domain=DOMAIN), RequestInfo(request_id=request_id))
    status = Status(code=code.value[0], message=message[:_MAX_MESSAGE_CHARACTERS])
    for detail in (*always, *details):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status
