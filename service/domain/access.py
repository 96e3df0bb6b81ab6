"""Who calls, and what they may do: tenants, scopes, keys and their limits."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Scope(StrEnum):
    """What a key allows; none includes another."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    #: Asking for the priority `high`, besides `WRITE`.
    HIGH = "high"


class KeyLimits(BaseModel):
    """How much one key may ask for; None: as much as it likes.

    `weight` is its share of busy workers beside other tenants, each of which has 1 unless set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: int | None = Field(None, ge=1)
    reads_per_minute: int | None = Field(None, ge=1)
    unfinished: int | None = Field(None, ge=1)
    megapixels_per_minute: float | None = Field(None, gt=0)
    stored_megabytes: float | None = Field(None, gt=0)
    weight: float = Field(1.0, gt=0, le=1000)


class ApiKey(BaseModel):
    """One key as it is kept: the secret's hash in place of the secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z2-7]{12}$")
    tenant: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    scopes: tuple[Scope, ...]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    note: str = ""
    created_at: datetime
    expires_at: datetime | None = None
    limits: KeyLimits = KeyLimits()


@dataclass(frozen=True)
class Allowance:
    """How a key stands with one of its limits.

    Attributes:
        policy: which limit: "requests", "reads" or "megapixels", each per minute, or "unfinished".
        quota: the limit.
        remaining: what is left of it now.
        reset_seconds: until all of it is there again.
    """

    policy: str
    quota: float
    remaining: int
    reset_seconds: int


@dataclass(frozen=True)
class Caller:
    """On whose behalf a call is made, as one key says."""

    tenant: str
    key_id: str
    scopes: frozenset[Scope]
    limits: KeyLimits
