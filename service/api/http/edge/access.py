"""Who calls over HTTP: read from the Authorization header, or from the page's cookie."""

import base64
from collections.abc import Callable, Hashable
from functools import partial
from typing import Annotated, cast
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope as Asgi

from service.api.http.headers import allowance_headers
from service.application.access import Access
from service.application.use_cases import UseCases
from service.domain.access import Scope
from service.domain.errors import PermissionDenied, Unauthenticated

#: Carries the key of somebody who signed in on the page; its scripts cannot read it.
SESSION_COOKIE = "hidiffusion_key"

_READING = {"GET", "HEAD"}

#: Ends of paths that have lanes of their own: the streams of one caller may be many, and a probe is
#: to be answered whatever else comes from its address.
_OWN_LANES = ("/events", "/healthz")

#: Reads the Authorization header; the OpenAPI document knows it by its name.
bearer = HTTPBearer(auto_error=False, description="An API key, where the service asks for one.")


async def use_cases_of(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> UseCases:
    """What the caller of `request` gets to work with: its own tenant's generations.

    Requests that read need the scope `read`, all others `write`; both are counted.

    Raises:
        Unauthenticated: the service asks for a key, and there is none, or it is no good.
        PermissionDenied: the key lacks the scope.
        RateLimited: the key has asked for too much.
    """
    access = _access(request)
    if access is None:
        request.state.use_cases = request.app.state.use_cases
        return cast("UseCases", request.app.state.use_cases)
    reading = request.method in _READING
    token = _token(request, credentials, changing=not reading)
    caller = access.caller(token, Scope.READ if reading else Scope.WRITE)
    if not reading or caller.limits.reads_per_minute is not None:
        count = partial(access.count_request, caller, reading=reading)
        allowance = await run_in_threadpool(count)
        if allowance is not None:
            request.state.more_headers = allowance_headers(allowance)
    request.state.use_cases = access.use_cases(caller)
    return access.use_cases(caller)


def check_may_write(request: Request, credentials: HTTPAuthorizationCredentials | None) -> None:
    """Return when the caller of `request` may change things, whatever its method.

    Raises:
        Unauthenticated: the service asks for a key, and there is none, or it is no good.
        PermissionDenied: the key lacks the scope.
    """
    if (access := _access(request)) is not None:
        access.caller(_token(request, credentials, changing=True), Scope.WRITE)


async def is_operator(request: Request) -> bool:
    """Whether the caller may see how the service is run: everybody, where there are no keys."""
    try:
        await require_operator(request)
    except (Unauthenticated, PermissionDenied):
        return False
    return True


async def require_operator(request: Request) -> None:
    """Let operators through: those with the scope `admin`.

    Raises:
        Unauthenticated: the service asks for a key, and there is none, or it is no good.
        PermissionDenied: the key lacks the scope `admin`.
    """
    if (access := _access(request)) is not None:
        changing = request.method not in _READING
        token = _token(request, await bearer(request), changing=changing)
        access.caller(token, Scope.ADMIN)


def lanes_of(access: Access | None, is_proxy: Callable[[str], bool]) -> Callable[[Asgi], Hashable]:
    """Tells in which lane a request waits for its turn: that of its tenant, or of its address.

    Args:
        access: knows the keys; None: there are none.
        is_proxy: whether an address is that of a proxy, which names the client it speaks for.
    """

    def lane_of(scope: Asgi) -> Hashable:
        request = Request(scope)
        path = scope["path"]
        own = next((end for end in _OWN_LANES if path.endswith(end)), "")
        return _tenant(request, access) or _address(request, is_proxy), own

    return lane_of


def _tenant(request: Request, access: Access | None) -> str:
    """Whose key comes with `request`; empty when it is no good."""
    if access is None:
        return ""
    kind, _, sent = request.headers.get("authorization", "").partition(" ")
    bearer_token = sent.strip() if kind.lower() == "bearer" else None
    try:
        token = bearer_token or _password(request) or session_token(request, changing=False)
        return access.holder(token).tenant
    except (Unauthenticated, ValueError):
        return ""


def _address(request: Request, is_proxy: Callable[[str], bool]) -> str:
    address = request.client.host if request.client else ""
    if is_proxy(address):
        address = request.headers.get("x-forwarded-for", address).rpartition(",")[2].strip()
    return f"[{address}]"


def _access(request: Request) -> Access | None:
    return cast("Access | None", request.app.state.access)


def _token(
    request: Request, credentials: HTTPAuthorizationCredentials | None, *, changing: bool
) -> str | None:
    if credentials:
        return credentials.credentials
    return _password(request) or session_token(request, changing=changing)


def _password(request: Request) -> str | None:
    """The key of a client that knows nothing but a user's name and password; any name will do."""
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:
        return None


def session_token(request: Request, *, changing: bool) -> str | None:
    """The key in the page's cookie, or None.

    Browsers send the cookie with whatever is asked of this host, so a request that changes
    something counts as the page's own only when its `Origin` says so.
    """
    origin = urlsplit(request.headers.get("origin", "")).netloc
    if not changing or origin == request.headers.get("host"):
        return request.cookies.get(SESSION_COOKIE)
    return None
