"""The one error tree of the service.

    ServiceError
      + InvalidRequest          the request breaks a rule; names every offending field
      + MalformedRequest        the request cannot be read
      + NotFound
      |   - GenerationNotFound  no generation has this id
      |   - ArtifactNotFound    the generation exists, this part of its result does not (yet)
      |   - UploadNotFound      no upload has this id
      + Conflict
      |   - IdempotencyMismatch the key was used before with another request
      |   - GenerationCancelled somebody cancelled what the client waits for
      + GenerationFailed        what the client waits for could not be made
      + WaitedTooLong           what the client waits for is not ready in time
      + Unauthenticated         there is no key, or none that is good
      + PermissionDenied        the key lacks a scope
      + RateLimited             the key has asked for too much
      + StorageFull             the tenant takes all the room in the store the key allows
      + RecordUnreadable        written by another version of the service
      + Unavailable             a dependency cannot be reached; try again later
      + StoreError              the object store refused or failed for good

Each error carries data, not only text; every edge (HTTP, gRPC, command line) has one table that
turns it into its own wire form.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.domain.access import Allowance


@dataclass(frozen=True)
class FieldViolation:
    """One broken rule: which field, what it held, and what would be allowed."""

    field: str
    value: str
    description: str


class ServiceError(Exception):
    """Base of every error a client may be told about."""

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def public_detail(self) -> str:
        """What a client is told: `detail`, unless that speaks of hosts, paths or keys."""
        return self.detail


class InvalidRequest(ServiceError):
    """The request breaks at least one rule and was not accepted."""

    reason = "INVALID_REQUEST"

    def __init__(self, violations: list[FieldViolation]) -> None:
        self.violations = violations
        super().__init__(
            "; ".join(f"{v.field}: {v.value} is not allowed, {v.description}" for v in violations)
        )


class MalformedRequest(ServiceError):
    """The request cannot be read, so no field of it can be named."""

    reason = "MALFORMED_REQUEST"


class NotFound(ServiceError):
    """Nothing is stored under this name."""

    reason = "NOT_FOUND"


class GenerationNotFound(NotFound):
    """No generation has this id."""

    reason = "GENERATION_NOT_FOUND"

    def __init__(self, generation_id: str) -> None:
        self.generation_id = generation_id
        super().__init__(f"no generation has the id {generation_id!r}; it may have expired")


class ArtifactNotFound(NotFound):
    """The generation exists, but this part of its result does not, or not yet."""

    reason = "ARTIFACT_NOT_FOUND"

    def __init__(
        self,
        generation_id: str,
        artifact: str,
        status: str,
        remedy: str = "follow its events to learn when it appears",
    ) -> None:
        self.generation_id = generation_id
        self.artifact = artifact
        super().__init__(
            f"generation {generation_id} has no {artifact} (its status is {status}); {remedy}"
        )


class UploadNotFound(NotFound):
    """No upload has this id."""

    reason = "UPLOAD_NOT_FOUND"

    def __init__(self, upload_id: str) -> None:
        self.upload_id = upload_id
        super().__init__(f"no upload has the id {upload_id!r}; it may have expired")


class Conflict(ServiceError):
    """The request contradicts something accepted before."""

    reason = "CONFLICT"


class IdempotencyMismatch(Conflict):
    """The idempotency key was used before with another request."""

    reason = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"the idempotency key {key!r} was used before with another request; choose a new key"
        )


class GenerationCancelled(Conflict):
    """Somebody cancelled the picture a client waits for."""

    reason = "GENERATION_CANCELLED"

    def __init__(self, generation_id: str) -> None:
        super().__init__(f"generation {generation_id} was cancelled")


class GenerationFailed(ServiceError):
    """The picture a client waits for could not be made.

    Attributes:
        code: the reason of the failure, for programs.
        retryable: whether asking for the same again may work.
    """

    reason = "GENERATION_FAILED"

    def __init__(self, detail: str, code: str, *, retryable: bool) -> None:
        self.code = code
        self.retryable = retryable
        super().__init__(detail)


class WaitedTooLong(ServiceError):
    """The picture a client waits for is not ready in time."""

    reason = "WAITED_TOO_LONG"

    def __init__(self, generation_id: str, seconds: float) -> None:
        super().__init__(
            f"generation {generation_id} was not ready after {seconds:g} s; use /v1/generations "
            "for what takes longer"
        )


class Unauthenticated(ServiceError):
    """There is no key, or none that is good; which of it, a stranger is not told."""

    reason = "UNAUTHENTICATED"

    def __init__(self) -> None:
        super().__init__("send a valid API key as 'Authorization: Bearer hd_...'")


class PermissionDenied(ServiceError):
    """The key is good, but not for this."""

    reason = "PERMISSION_DENIED"

    def __init__(self, scope: str) -> None:
        self.scope = scope
        super().__init__(f"the key lacks the scope {scope!r}; ask the operator for one that has it")


class RateLimited(ServiceError):
    """The key has asked for too much.

    Attributes:
        allowance: the limit that was reached.
        retry_after: seconds after which the same request may pass.
    """

    reason = "RATE_LIMITED"

    def __init__(self, allowance: Allowance, retry_after: int) -> None:
        self.allowance = allowance
        self.retry_after = retry_after
        per = "generations" if allowance.policy == "unfinished" else "a minute"
        rule = f"{allowance.quota:g} {allowance.policy} {per}"
        super().__init__(f"the key allows {rule}; retry in {retry_after} s")


class StorageFull(ServiceError):
    """The tenant takes all the room in the store that the key allows; waiting may not help."""

    reason = "STORAGE_FULL"

    def __init__(self, quota_megabytes: float, stored_bytes: int) -> None:
        super().__init__(
            f"the key allows {quota_megabytes:g} MB of stored results and uploads, and there are "
            f"{stored_bytes / 1e6:.1f} MB; delete generations with purge=true, delete uploads, or "
            "ask for expires_in_seconds"
        )


class Unavailable(ServiceError):
    """A dependency cannot be reached at the moment.

    Attributes:
        dependency: what is missing: "redis", "store" or "worker".
        retry_after: seconds after which a client may try again.
    """

    reason = "UNAVAILABLE"

    def __init__(self, dependency: str, detail: str, retry_after: int = 5) -> None:
        self.dependency = dependency
        self.retry_after = retry_after
        super().__init__(f"{dependency} is not available: {detail}; retry in {retry_after} s")

    @property
    def public_detail(self) -> str:
        """Which dependency is missing, but not where it should have been."""
        return f"{self.dependency} is not available; retry in {self.retry_after} s"


class RecordUnreadable(ServiceError):
    """A record that this version of the service cannot read; it is kept for one that can.

    Attributes:
        generation_id: of the record.
        tenant: whose it is.
        cause: what is wrong with it.
        retry_after: seconds after which a client may try again, perhaps with another server.
    """

    reason = "RECORD_UNREADABLE"

    def __init__(self, generation_id: str, tenant: str, cause: str, retry_after: int = 60) -> None:
        self.generation_id = generation_id
        self.tenant = tenant
        self.cause = cause
        self.retry_after = retry_after
        super().__init__(
            f"generation {generation_id} was recorded by another version of the service: {cause}"
        )

    @property
    def public_detail(self) -> str:
        """That it is kept, and not how it is kept."""
        return (
            f"generation {self.generation_id} was recorded by another version of the service, and "
            f"this one cannot read it; it is kept; retry in {self.retry_after} s"
        )


class StoreError(ServiceError):
    """The object store refused or failed an operation, and retrying did not help."""

    reason = "STORE_ERROR"

    @property
    def public_detail(self) -> str:
        """That it happened; object keys and folders stay inside."""
        return "the object store refused an operation; repeating the request will not help"
