"""The service's client for Python: `Client` for plain code, `AsyncClient` for event loops.

It needs httpx and pydantic, and none of what the service itself runs on.
"""

from service.client.aio import AsyncClient
from service.client.errors import (
    ApiError,
    ClientError,
    ConflictError,
    DownloadCorruptedError,
    GenerationCancelledError,
    GenerationFailedError,
    IdempotencyError,
    InvalidRequestError,
    NotFoundError,
    NotReadyError,
    PermissionDeniedError,
    RateLimitedError,
    ServerFailedError,
    StorageFullError,
    UnauthenticatedError,
    UnavailableError,
    UnreachableError,
    UntrustedError,
    Violation,
    WaitTimeoutError,
)
from service.client.models import (
    Artifact,
    Event,
    FailedEvent,
    Generation,
    Model,
    PreviewEvent,
    Result,
    StepEvent,
    SucceededEvent,
    Tile,
    TileEvent,
    Upload,
)
from service.client.plans import RetryPolicy
from service.client.sync import Client
from service.domain.generations.generation import Status
from service.domain.requests.request import GenerationRequest

__all__ = [
    "ApiError",
    "Artifact",
    "AsyncClient",
    "Client",
    "ClientError",
    "ConflictError",
    "DownloadCorruptedError",
    "Event",
    "FailedEvent",
    "Generation",
    "GenerationCancelledError",
    "GenerationFailedError",
    "GenerationRequest",
    "IdempotencyError",
    "InvalidRequestError",
    "Model",
    "NotFoundError",
    "NotReadyError",
    "PermissionDeniedError",
    "PreviewEvent",
    "RateLimitedError",
    "Result",
    "RetryPolicy",
    "ServerFailedError",
    "Status",
    "StepEvent",
    "StorageFullError",
    "SucceededEvent",
    "Tile",
    "TileEvent",
    "UnauthenticatedError",
    "UnavailableError",
    "UnreachableError",
    "UntrustedError",
    "Upload",
    "Violation",
    "WaitTimeoutError",
]
