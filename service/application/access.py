"""Let callers in by their keys, and show each the work of its own tenant alone."""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from service.application.ports import Clock, Records
from service.application.tenancy import CallerRecords, Limiter
from service.application.use_cases import UseCases
from service.domain.access import Allowance, ApiKey, Caller, KeyLimits, Scope
from service.domain.errors import PermissionDenied, Unauthenticated

#: What every token begins with, so that scanners for leaked secrets can tell one.
TOKEN_PREFIX = "hd"

_SECRET_BYTES = 32
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 12


class Keys(Protocol):
    """Where the keys are kept."""

    def find(self, key_id: str) -> ApiKey | None:
        """The key of this id, or None."""
        ...


class Access:
    """Decides who may call, and what each caller gets to see.

    Args:
        keys: the keys there are.
        records: every tenant's generations.
        limiter: counts what each key asks for.
        clock: tells which keys have expired.
        build: makes the use cases over some records, for a tenant.
    """

    def __init__(
        self,
        keys: Keys,
        records: Records,
        limiter: Limiter,
        clock: Clock,
        build: Callable[[Records, str], UseCases],
    ) -> None:
        self._keys = keys
        self._records = records
        self._limiter = limiter
        self._clock = clock
        self._build = build

    def caller(self, token: str | None, scope: Scope) -> Caller:
        """Who sends this token, when its key is good for `scope`.

        Raises:
            Unauthenticated: there is no key, or it is unknown, wrong or expired.
            PermissionDenied: the key lacks the scope.
        """
        caller = self.holder(token)
        if scope not in caller.scopes:
            raise PermissionDenied(scope)
        return caller

    def holder(self, token: str | None) -> Caller:
        """Who sends this token, whatever its key is good for.

        Raises:
            Unauthenticated: there is no key, or it is unknown, wrong or expired.
        """
        prefix, _, rest = (token or "").partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._keys.find(key_id)
        digest = hashlib.sha256(secret.encode()).hexdigest()
        right = key is not None and hmac.compare_digest(digest, key.sha256)
        if key is None or not right or prefix != TOKEN_PREFIX or self._expired(key):
            raise Unauthenticated
        return Caller(key.tenant, key.id, frozenset(key.scopes), key.limits)

    def use_cases(self, caller: Caller) -> UseCases:
        """Everything the service can do, over the caller's own work."""
        return self._build(CallerRecords(self._records, caller, self._limiter), caller.tenant)

    def count_request(self, caller: Caller, *, reading: bool) -> Allowance | None:
        """Count a request that reads or changes something; raises `RateLimited` when due."""
        return self._limiter.count_request(caller, reading=reading)

    def _expired(self, key: ApiKey) -> bool:
        return key.expires_at is not None and key.expires_at <= self._clock.now()


def new_key(
    tenant: str,
    scopes: tuple[Scope, ...],
    created_at: datetime,
    *,
    expires_at: datetime | None = None,
    limits: KeyLimits | None = None,
    note: str = "",
) -> tuple[ApiKey, str]:
    """A new key and its token, which is not kept anywhere.

    The secret is 256 random bits, so a plain SHA-256 of it tells nobody anything; slow hashes are
    for what people make up.
    """
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    key = ApiKey(
        id=key_id,
        tenant=tenant,
        scopes=scopes,
        sha256=hashlib.sha256(secret.encode()).hexdigest(),
        note=note,
        created_at=created_at,
        expires_at=expires_at,
        limits=limits or KeyLimits(),
    )
    return key, f"{TOKEN_PREFIX}_{key_id}_{secret}"
