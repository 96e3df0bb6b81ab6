"""Who calls over gRPC: read from the call's metadata, once per call."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial

from service.application.access import Access
from service.application.use_cases import UseCases
from service.domain.access import Scope
from service.domain.errors import Unauthenticated

#: Methods that read, by how their names begin; all others change something.
_READING = ("Get", "List", "Watch", "Stream", "Download")

#: Those whose calls of one caller may be many, as they last.
_LASTING = ("Watch", "Stream")

_current: ContextVar[UseCases] = ContextVar("use_cases")


class Callers:
    """What each caller gets to work with: its own tenant's generations.

    Args:
        everything: what everybody gets where there is no `access`.
        access: decides who may call.
    """

    def __init__(self, everything: UseCases, access: Access | None) -> None:
        self._everything = everything
        self._access = access

    @asynccontextmanager
    async def calling(self, method: str, authorization: str | None) -> AsyncIterator[None]:
        """Let the caller of `method` in for the length of the block.

        Raises:
            Unauthenticated: a key is asked for, and there is none, or it is no good.
            PermissionDenied: the key lacks the scope.
            RateLimited: the key has asked for too much.
        """
        token = _current.set(await self._use_cases(method, authorization))
        try:
            yield
        finally:
            _current.reset(token)

    def lane(self, method: str, authorization: str | None) -> Hashable:
        """In which lane a call waits for its turn: that of its tenant, or of all without one.

        Addresses have taken turns before, in the relay.
        """
        lasting = method.startswith(_LASTING)
        if self._access is None:
            return "gRPC", lasting
        try:
            return self._access.holder(_token(authorization)).tenant, lasting
        except (Unauthenticated, ValueError):
            return "gRPC", lasting

    @property
    def use_cases(self) -> UseCases:
        """What the caller of the present call gets to work with."""
        return _current.get()

    def check_may_write(self, authorization: str | None) -> None:
        """Return when the caller may change things.

        Raises:
            Unauthenticated: a key is asked for, and there is none, or it is no good.
            PermissionDenied: the key lacks the scope.
        """
        if self._access is not None:
            self._access.caller(_token(authorization), Scope.WRITE)

    async def _use_cases(self, method: str, authorization: str | None) -> UseCases:
        if self._access is None:
            return self._everything
        reading = method.startswith(_READING)
        caller = self._access.caller(_token(authorization), Scope.READ if reading else Scope.WRITE)
        if not reading or caller.limits.reads_per_minute is not None:
            await asyncio.to_thread(partial(self._access.count_request, caller, reading=reading))
        return self._access.use_cases(caller)


def _token(authorization: str | None) -> str | None:
    kind, _, token = (authorization or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None
