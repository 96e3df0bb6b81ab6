"""A generation: what was asked for, and where it stands."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.domain.artifacts import Manifest
from service.domain.requests.request import ClientMetadata, Priority, ResolvedRequest
from service.domain.webhooks import Webhook


class Status(StrEnum):
    """Where a generation stands: queued, then running, then one of the three final states."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more can happen."""
        return self in {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}


class Progress(BaseModel):
    """How far a running generation is; `phase` says which of its stages `step` counts.

    `reason` says why it waits for the store, and is empty otherwise.
    """

    model_config = ConfigDict(frozen=True)

    phase: Literal["waiting", "denoising", "decoding", "waiting_for_store", "done"] = "waiting"
    step: int = 0
    total: int = 0
    reason: str = ""


class Failure(BaseModel):
    """Why a generation failed: a stable `reason` for programs, a `detail` for people.

    `retryable` says whether asking for the same again may work.
    """

    model_config = ConfigDict(frozen=True)

    reason: str
    detail: str
    retryable: bool = False


class Generation(BaseModel):
    """The record of one generation, from acceptance to its final state.

    `tenant` is whose it is; empty where the service is open to all. `attempt` counts how often a
    worker has begun it. It fences every write: what an older attempt still has to say is dropped.
    `inputs` holds the object key of each picture that the request names, by the upload's id.
    `weight` is its tenant's share of the workers beside those of others.
    `priority`, `client_metadata`, `webhook` and the seconds of limits are as asked for.
    `trace_context`, W3C headers, is that of its acceptance, in the pipeline process that of its
    attempt, and empty where there are no traces.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    tenant: str = ""
    status: Status
    request: ResolvedRequest
    inputs: dict[str, str] = Field(default_factory=dict)
    priority: Priority = "normal"
    weight: float = 1.0
    timeout_seconds: int | None = None
    client_metadata: ClientMetadata = Field(default_factory=dict)
    webhook: Webhook | None = None
    expires_in_seconds: int | None = None
    trace_context: dict[str, str] = Field(default_factory=dict)
    attempt: int = 0
    progress: Progress = Progress()
    cancel_requested: bool = False
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: Manifest | None = None
    error: Failure | None = None
