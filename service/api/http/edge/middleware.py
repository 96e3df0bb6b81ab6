"""What every request passes through: it gets an id, and its body a limit."""

import asyncio
import ipaddress
import re
import time
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars
from ulid import ULID

from service.api.http import links
from service.api.http.errors import problems
from service.api.metrics import ApiMetrics

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


#: Browsers are to take answers for what they say they are, frame none, and tell nobody the path.
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


class RequestId:
    """Names each request: by the client's x-request-id when it is sane, else by a new ULID."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bind the id to the request's state, its log lines and its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ACCEPTABLE_ID.fullmatch(given) else str(ULID())
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                for name, value in scope["state"].get("more_headers", {}).items():
                    headers.setdefault(name, value)
            await send(message)

        with bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_with_id)


class Prefix:
    """Serves everything below a path too, and sends clients there: a proxy may pass it on or not.

    Args:
        app: what comes behind.
        prefix: the path, without a slash at its end; empty: none.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the path off, and remember it for links."""
        if scope["type"] == "http" and self._prefix:
            links.prefix.set(self._prefix)
            if scope["path"].startswith(f"{self._prefix}/"):
                raw = scope.get("raw_path", b"").removeprefix(self._prefix.encode())
                path = scope["path"].removeprefix(self._prefix)
                scope = {**scope, "path": path, "raw_path": raw}
        await self._app(scope, receive, send)


class Farewell:
    """Ends connections with the answer they get once `leaving` is set, so that the next request
    goes to another process."""

    def __init__(self, app: ASGIApp, leaving: asyncio.Event) -> None:
        self._app = app
        self._leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say so in the response's head."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_farewell(message: Message) -> None:
            if message["type"] == "http.response.start" and self._leaving.is_set():
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_farewell)


class Measure:
    """Counts requests and their time, by the route's own path and not the one asked for."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure from here to the begin of the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def send_measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                seconds = time.perf_counter() - began
                self._metrics.answered(scope["method"], route, message["status"], seconds)
            await send(message)

        with self._metrics.open_request():
            await self._app(scope, receive, send_measured)


class BodyLimit:
    """Refuses bodies longer than `max_bytes`, or than `longer` has for a path; counts what arrives.

    A declared length over the limit is refused before anything is read; a wrong or missing one
    cannot get around the count.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, longer: Mapping[str, int]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._longer = longer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._longer.get(scope["path"], self._max_bytes)
        declared = Headers(scope=scope).get("content-length", "")
        excessive = declared.isdigit() and int(declared) > limit
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            if excessive:
                raise _too_large(limit, scope["path"])
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit, scope["path"])
            return message

        await self._app(scope, receive_counted, send)


def _too_large(limit: int, path: str) -> HTTPException:
    detail = f"the body is longer than the {limit} bytes allowed"
    if path not in (links.UPLOADS, links.EDITS, links.VARIATIONS):
        detail += f"; send pictures to {links.UPLOADS} and name their ids"
    return HTTPException(413, detail)


class KnownHost:
    """Refuses requests that were meant for another host, as a browser sends them after its name
    for one was made to lead here (DNS rebinding).

    Addresses and names without a dot are nobody's to register, so they are let through.

    Args:
        app: what comes behind.
        allowed: the names that are known; None: all.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str] | None) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is meant for here."""
        if scope["type"] == "http" and self._allowed is not None:
            name = _host_name(Headers(scope=scope).get("host", ""))
            if not (name in self._allowed or _is_local(name)):
                await _misdirected(scope, name)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _misdirected(scope: Scope, name: str) -> JSONResponse:
    kind = problems.UNKNOWN_HOST
    problem = problems.Problem(
        type=kind.uri,
        title=kind.title,
        status=kind.status,
        detail=f"this service does not know itself as {name[:200]!r}",
        instance=scope["path"],
        reason=kind.reason,
        request_id=scope["state"]["request_id"],
    )
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, kind.status, media_type="application/problem+json")


def _host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return host.lower()


def _is_local(name: str) -> bool:
    if "." not in name and ":" not in name:
        return True
    if name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
