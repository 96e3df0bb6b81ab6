"""Tenants, and how their clients ask: in batches, within limits, and again until they are told."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from ulid import ULID

from service.application.access import new_key
from service.domain.access import KeyLimits, Scope
from service.storage.key_file import KeyFile

#: Longest that a client asks again under one key. A place that was reserved for what never came to
#: be is free again after a minute.
PATIENCE_SECONDS = 240.0

#: Unfinished generations that the bounded tenant may have.
PLACES = 4

LIMITS = {
    "free": KeyLimits(),
    "bounded": KeyLimits(
        unfinished=PLACES, requests_per_minute=6000, megapixels_per_minute=60, weight=2
    ),
}
TENANTS = tuple(LIMITS)


def make_tokens(path: Path) -> dict[str, str]:
    """Write a file with a key for each tenant; the tokens by tenant."""
    keys, tokens = KeyFile(path), {}
    for tenant, limits in LIMITS.items():
        scopes = (Scope.READ, Scope.WRITE)
        key, tokens[tenant] = new_key(tenant, scopes, datetime.now(UTC), limits=limits)
        keys.add(key)
    return tokens


@dataclass
class Asking:
    """One request of a client, which it repeats under one key until it is told what became of it.

    Attributes:
        ids: what was accepted, once it was.
        refused: how often there was no room within the limits.
    """

    tenant: str
    url: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    n: int
    key: str = field(default_factory=lambda: str(ULID()))
    ids: list[str] = field(default_factory=list)
    refused: int = 0

    def once(self) -> bool:
        """Ask; tells whether there was an answer, accepted or refused.

        Raises:
            AssertionError: another answer than the one before, or none of these.
        """
        path, body = "/v1/generations", dict(self.body)
        if self.n > 1:
            path, body = "/v1/generations/batch", body | {"n": self.n}
        headers = {**self.headers, "Idempotency-Key": self.key}
        try:
            reply = httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=10)
        except httpx.HTTPError:
            return False
        if reply.status_code == 429:
            assert not self.ids, f"{self.ids} were accepted, and are refused: {reply.text}"
            self.refused += 1
            return True
        if not reply.is_success:
            assert reply.status_code == 503, reply.text
            return False
        told = reply.json()
        ids = [each["id"] for each in told["generations"]] if self.n > 1 else [told["id"]]
        assert len(ids) == self.n, told
        assert self.ids in ([], ids), f"{self.ids} were accepted under this key, and now {ids}"
        self.ids = ids
        return True

    def until_answered(self) -> None:
        """Ask until it is accepted or refused."""
        self._repeat(self.once)

    def until_accepted(self) -> list[str]:
        """Ask until it is accepted, also when it was before; the ids."""
        self._repeat(lambda: self.once() and bool(self.ids))
        return self.ids

    def _repeat(self, done: Any) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            assert time.monotonic() < deadline, f"no end of {self}"
            time.sleep(0.1)
