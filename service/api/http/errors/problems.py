"""Problem details (RFC 9457): one row per problem type, and the table from errors to rows.

Every row is served as documentation at its own `type` address.
"""

from dataclasses import dataclass

from pydantic import BaseModel, Field

from service.api.http import links
from service.domain.errors import (
    ArtifactNotFound,
    Conflict,
    GenerationCancelled,
    GenerationFailed,
    GenerationNotFound,
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
    UploadNotFound,
    WaitedTooLong,
)


@dataclass(frozen=True)
class ProblemType:
    """One kind of problem: its stable name, status code, title, and what to do about it."""

    slug: str
    status: int
    title: str
    remedy: str

    @property
    def uri(self) -> str:
        """The `type` of a problem document, relative to the service."""
        return f"{links.PROBLEMS}/{self.slug}"

    @property
    def reason(self) -> str:
        """The same name as gRPC's `ErrorInfo.reason` spells it."""
        return self.slug.upper().replace("-", "_")


class Violation(BaseModel):
    """One broken rule of a request."""

    field: str = Field(examples=["width"])
    value: str = Field(description="What the field held.", examples=["1001"])
    description: str = Field(
        description="What is allowed.", examples=["multiples of 8 from 128 to 4096 pixels"]
    )


class Problem(BaseModel):
    """The body of every error response."""

    type: str = Field(examples=["/problems/invalid-request"])
    title: str = Field(examples=["The request breaks a rule"])
    status: int = Field(examples=[422])
    detail: str = Field(description="This occurrence, in words.")
    instance: str = Field(description="Path of the request.", examples=["/v1/generations"])
    reason: str = Field(examples=["INVALID_REQUEST"])
    request_id: str = Field(description="Also in the x-request-id header; quote it in reports.")
    errors: list[Violation] | None = Field(
        None, description="Every offending field; with invalid-request only."
    )


INVALID_REQUEST = ProblemType(
    "invalid-request",
    422,
    "The request breaks a rule",
    "`errors` names each offending field, the value it held and what is allowed. Nothing was "
    "accepted; correct the fields and send the request again.",
)
MALFORMED_REQUEST = ProblemType(
    "malformed-request",
    400,
    "The request cannot be read",
    "The body is not valid JSON, or the request breaks HTTP itself. Nothing was accepted.",
)
NOT_FOUND = ProblemType(
    "not-found", 404, "There is nothing at this path", "See /docs for the paths there are."
)
GENERATION_NOT_FOUND = ProblemType(
    "generation-not-found",
    404,
    "There is no such generation",
    "Check the id. Finished generations are forgotten after a while, or were purged.",
)
ARTIFACT_NOT_FOUND = ProblemType(
    "artifact-not-found",
    404,
    "The generation has no such artifact",
    "It may not be stored yet: follow the generation's events, which tell when it is. Of a "
    "generation that failed or was cancelled, it never will be.",
)
UPLOAD_NOT_FOUND = ProblemType(
    "upload-not-found",
    404,
    "There is no such upload",
    "Check the id. Uploads are forgotten some time after they were last sent or used; send the "
    "picture again.",
)
METHOD_NOT_ALLOWED = ProblemType(
    "method-not-allowed",
    405,
    "The path does not allow this method",
    "The Allow header lists the methods it does allow.",
)
UNKNOWN_HOST = ProblemType(
    "unknown-host",
    421,
    "The request is for a host that this service is not",
    "Ask by an address, or by a name of HIDIFFUSION_API__ALLOWED_HOSTS.",
)
CONFLICT = ProblemType(
    "conflict",
    409,
    "The request contradicts the present state",
    "`detail` says what stands in the way; wait for it to change, then repeat the request.",
)
BODY_TOO_LARGE = ProblemType(
    "body-too-large",
    413,
    "The request body is too large",
    "Shorten the body to what `detail` allows. Nothing was accepted.",
)
UNSUPPORTED_MEDIA_TYPE = ProblemType(
    "unsupported-media-type",
    415,
    "The request body is not JSON",
    "Send the body with `Content-Type: application/json`.",
)
RANGE_NOT_SATISFIABLE = ProblemType(
    "range-not-satisfiable",
    416,
    "The range lies outside the artifact",
    "The Content-Range header gives the artifact's length.",
)
IDEMPOTENCY_KEY_REUSED = ProblemType(
    "idempotency-key-reused",
    422,
    "The idempotency key belongs to another request",
    "The same key came before with a different body. Use a new key for a new request.",
)
GENERATION_CANCELLED = ProblemType(
    "generation-cancelled",
    409,
    "The picture waited for was cancelled",
    "Somebody stopped it. Send the request again if the picture is still wanted.",
)
GENERATION_FAILED = ProblemType(
    "generation-failed",
    500,
    "The picture waited for could not be made",
    "The code says why. The x-should-retry header says whether the same request may work again.",
)
WAITED_TOO_LONG = ProblemType(
    "waited-too-long",
    504,
    "The picture waited for was not ready in time",
    "It was cancelled, unless an Idempotency-Key came with the request. Use /v1/generations, which "
    "does not wait.",
)
UNAUTHENTICATED = ProblemType(
    "unauthenticated",
    401,
    "The request has no valid API key",
    "Send one as `Authorization: Bearer hd_…`. It may have expired or been revoked.",
)
PERMISSION_DENIED = ProblemType(
    "permission-denied",
    403,
    "The API key does not allow this",
    "`detail` names the scope that is missing; ask the operator for a key that has it.",
)
RATE_LIMITED = ProblemType(
    "rate-limited",
    429,
    "The API key has asked for too much",
    "`detail` names the limit. Repeat the request after the seconds of the Retry-After header.",
)
STORAGE_FULL = ProblemType(
    "storage-full",
    507,
    "Stored results and uploads take all the room there is for them",
    "Delete generations with `DELETE /v1/generations/{id}?purge=true` or uploads, or wait until "
    "some expire; `expires_in_seconds` lets them end earlier. The limit is that of the API key.",
)
UNAVAILABLE = ProblemType(
    "unavailable",
    503,
    "A dependency cannot be reached",
    "Nothing was accepted. Repeat the request after the seconds of the Retry-After header.",
)
RECORD_UNREADABLE = ProblemType(
    "record-unreadable",
    503,
    "The record was written by another version of the service",
    "Nothing is lost: it is kept until a version that can read it runs. Repeat the request after "
    "the seconds of the Retry-After header; an operator finds it with `hidiffusion quarantine`.",
)
STORE_ERROR = ProblemType(
    "store-error",
    500,
    "The object store refused an operation",
    "Repeating the request will not help; tell the operator the request id.",
)
INTERNAL = ProblemType(
    "internal",
    500,
    "Something went wrong inside the service",
    "It is logged under the request id; tell the operator.",
)

PROBLEM_TYPES = (
    INVALID_REQUEST,
    MALFORMED_REQUEST,
    NOT_FOUND,
    GENERATION_NOT_FOUND,
    ARTIFACT_NOT_FOUND,
    UPLOAD_NOT_FOUND,
    METHOD_NOT_ALLOWED,
    UNKNOWN_HOST,
    CONFLICT,
    BODY_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    RANGE_NOT_SATISFIABLE,
    IDEMPOTENCY_KEY_REUSED,
    GENERATION_CANCELLED,
    GENERATION_FAILED,
    WAITED_TOO_LONG,
    UNAUTHENTICATED,
    PERMISSION_DENIED,
    RATE_LIMITED,
    STORAGE_FULL,
    UNAVAILABLE,
    RECORD_UNREADABLE,
    STORE_ERROR,
    INTERNAL,
)

_BY_ERROR: dict[type[ServiceError], ProblemType] = {
    InvalidRequest: INVALID_REQUEST,
    MalformedRequest: MALFORMED_REQUEST,
    NotFound: NOT_FOUND,
    GenerationNotFound: GENERATION_NOT_FOUND,
    ArtifactNotFound: ARTIFACT_NOT_FOUND,
    UploadNotFound: UPLOAD_NOT_FOUND,
    Conflict: CONFLICT,
    IdempotencyMismatch: IDEMPOTENCY_KEY_REUSED,
    GenerationCancelled: GENERATION_CANCELLED,
    GenerationFailed: GENERATION_FAILED,
    WaitedTooLong: WAITED_TOO_LONG,
    Unauthenticated: UNAUTHENTICATED,
    PermissionDenied: PERMISSION_DENIED,
    RateLimited: RATE_LIMITED,
    StorageFull: STORAGE_FULL,
    Unavailable: UNAVAILABLE,
    RecordUnreadable: RECORD_UNREADABLE,
    StoreError: STORE_ERROR,
    ServiceError: INTERNAL,
}


def problem_of(error: ServiceError) -> ProblemType:
    """The row for the error's class, or for the nearest class it derives from."""
    return next(_BY_ERROR[kind] for kind in type(error).__mro__ if kind in _BY_ERROR)
