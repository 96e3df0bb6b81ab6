"""HTTP connections with limits: how many there are, how long heads and bodies are and may take.
Requests are begun by turns.

uvicorn leaves these to a proxy, and its fast parser has no limit of its own: a header that never
ends is put together again with each piece of it, so a few megabytes hold the event loop for
seconds. The limits are kept here, where bytes arrive and before anything is made of them.
"""

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, ClassVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.listening import ConnectionLimits
from service.api.turns import Turn, Turns

#: Bytes given to the parser at a time; what is over a limit is found after at most so many.
_PIECE = 16 * 1024

#: Bytes of a body that give it one second more.
_BYTES_A_SECOND = 16 * 1024

_ANSWERS = {
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def limited_http(
    limits: ConnectionLimits, turns: Turns, lane_of: Callable[[Scope], Hashable]
) -> "type[LimitedHttp]":
    """The protocol of one server, for uvicorn's `http`.

    Args:
        limits: what its connections stay within.
        turns: whose request is begun next.
        lane_of: tells in which lane a request waits for that.
    """
    parts = {"limits": limits, "turns": turns, "lane_of": staticmethod(lane_of)}
    return type("LimitedHttp", (LimitedHttp,), parts)


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's protocol within the limits of one server; make one by `limited_http`."""

    limits: ClassVar[ConnectionLimits]
    turns: ClassVar[Turns]
    lane_of: ClassVar[Callable[[Scope], Hashable]]

    def __init__(self, *args: Any, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self._address = ""
        self._counted = False
        self._in_head = True
        self._head_bytes = 0
        self._refusal = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._body_bytes = 0
        self._turn: Turn | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection in, or turn it away."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self._counted = self.limits.enter(self._address)
        if not self._counted:
            self._turn_away(503)
            return
        self._expect(self.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give its place to another."""
        self._stop_expecting()
        if self._turn is not None:
            self._turn.end()
        if self._counted:
            self._counted = False
            self.limits.leave(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse piece by piece, and stop at the first that is over a limit."""
        if self._in_head and not self._head_bytes and self._deadline is None:
            self._expect(self.limits.head_seconds)
        for start in range(0, len(data), _PIECE):
            if self.transport.is_closing():
                return
            piece = data[start : start + _PIECE]
            super().data_received(piece)
            if self._in_head:
                self._head_bytes += len(piece)
                if self._head_bytes > self.limits.head_bytes:
                    self._refusal = 431
            if self._refusal:
                self._turn_away(self._refusal)
                return

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._head_bytes, self._body_bytes = True, 0, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header more."""
        if len(self.headers) >= self.limits.headers:
            self._refusal = 431
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there, and its body is expected."""
        self._in_head, self._head_bytes = False, 0
        if self._refusal:
            return
        self._expect(self.limits.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there as a whole; the next one may take its time."""
        self._stop_expecting()
        self._in_head, self._head_bytes = True, 0
        if not self._refusal:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        """Begin a request when it is its turn, which ends as the answer begins."""

        async def by_turns(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_and_end(message: Message) -> None:
                turn.end()
                await send(message)

            try:
                await app(scope, receive, send_and_end)
            finally:
                turn.end()

        begin = partial(super()._start_asgi_task, cycle, by_turns)  # type: ignore[arg-type]
        lane = type(self).lane_of(cycle.scope)  # type: ignore[arg-type]
        turn = self._turn = self.turns.ask(lane, begin)

    def _expect(self, seconds: float) -> None:
        self._stop_expecting()
        self._deadline = self.loop.call_later(seconds, self._overdue)

    def _stop_expecting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _overdue(self) -> None:
        """Turn a slow client away, but not one that waits for us or sends steadily."""
        self._deadline = None
        earned, self._body_bytes = self._body_bytes / _BYTES_A_SECOND, 0
        if not self._in_head and (earned >= 1.0 or self.flow.read_paused):
            self._expect(max(earned, 1.0))
            return
        self._turn_away(408)

    def _turn_away(self, status: int) -> None:
        """Answer with `status`, unless an answer has begun, and close."""
        self._stop_expecting()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            retry = "retry-after: 5\r\n" if status == 503 else ""
            self.transport.write(
                f"HTTP/1.1 {status} {_ANSWERS[status]}\r\n{retry}content-length: 0\r\n"
                "connection: close\r\n\r\n".encode("ascii")
            )
        self.transport.close()
