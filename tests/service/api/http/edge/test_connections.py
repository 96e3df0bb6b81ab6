"""Connections that never end what they begin, or come all at once: others go on. Real sockets."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.http.edge.connections import limited_http
from service.api.listening import ConnectionLimits
from service.api.turns import Turns

#: What a server that holds its limits needs for any of this, and a hundred times more.
PATIENCE_SECONDS = 30.0

GET = b"GET / HTTP/1.1\r\nhost: x\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the length of the body."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


class Server:
    """Requests are begun two at a time; those whose path ends in another letter take turns."""

    def __init__(self, app: ASGIApp = echo, **limits: object) -> None:
        self.limits = ConnectionLimits(**limits)
        self.turns = Turns(at_once=2, seconds=PATIENCE_SECONDS)
        self._listener = socket.create_server(("127.0.0.1", 0))
        protocol = limited_http(self.limits, self.turns, lambda scope: scope["path"][-1])
        config = uvicorn.Config(app, http=protocol, lifespan="off", log_config=None, ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))
        self._thread.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(self._listener.getsockname(), timeout=PATIENCE_SECONDS)

    def ask(self, request: bytes) -> bytes:
        """What comes back for `request` until the server closes."""
        with self.connect() as end:
            send(end, request)
            return read(end)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE_SECONDS)


def send(end: socket.socket, data: bytes) -> None:
    """Send as much as the server takes before it closes."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        end.sendall(data)


def read(end: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := end.recv(65536):
            found += piece
    return found


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(app: ASGIApp = echo, **limits: object) -> Server:
        servers.append(Server(app, **limits))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def answers(server: Server) -> bool:
    return server.ask(GET + b"connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_a_header_that_never_ends_is_refused(serve):
    server = serve()
    with server.connect() as end:
        send(end, GET + b"x: " + b"y" * 16_000_000)
        told = read(end)
    assert told == b"" or told.startswith(b"HTTP/1.1 431")  # a reset may overtake the answer
    assert answers(server)


@pytest.mark.parametrize(
    "head",
    [GET + b"x: " + b"y" * 100_000, GET + b"x: y\r\n" * 101, b"GET /" + b"y" * 100_000],
    ids=["long", "many", "path"],
)
def test_a_head_over_a_limit_is_refused_with_its_name(serve, head):
    assert serve().ask(head + b"\r\n\r\n").startswith(b"HTTP/1.1 431")


def test_long_bodies_and_further_requests_have_room(serve):
    server = serve()
    body = b"z" * 300_000
    post = GET + b"content-length: %d\r\n" % len(body)
    again = post + b"\r\n" + body + post + b"connection: close\r\n\r\n" + body
    assert server.ask(again).count(b"300000") == 2


@pytest.mark.parametrize("sent", [b"", GET, GET + b"content-length: 9\r\n\r\nx"])
def test_what_is_begun_and_not_gone_on_with_is_ended(serve, sent):
    server = serve(head_seconds=0.2, body_seconds=0.2)
    assert server.ask(sent).startswith(b"HTTP/1.1 408")
    assert server.limits.open == 0


def test_a_trickle_does_not_keep_a_head_alive(serve):
    server = serve(head_seconds=0.3)
    with server.connect() as end:
        end.settimeout(0.02)
        deadline = time.monotonic() + PATIENCE_SECONDS
        send(end, GET)
        while time.monotonic() < deadline:
            send(end, b"x: y\r\n")
            with contextlib.suppress(TimeoutError):
                assert end.recv(100).startswith(b"HTTP/1.1 408")
                return
    pytest.fail("it was never ended")


def test_a_slow_but_steady_body_is_taken(serve):
    server = serve(body_seconds=0.3)
    with server.connect() as end:
        send(end, GET + b"connection: close\r\ncontent-length: 200000\r\n\r\n")
        for _ in range(10):
            send(end, b"z" * 20_000)
            time.sleep(0.05)
        assert read(end).endswith(b"200000")


def test_there_is_room_for_so_many_and_again_for_those_who_come_later(serve):
    server = serve(connections=3)
    with contextlib.ExitStack() as open_ends:
        for _ in range(3):
            end = open_ends.enter_context(server.connect())
            send(end, GET + b"\r\n")
            assert end.recv(100).startswith(b"HTTP/1.1 200")
        assert server.ask(b"").startswith(b"HTTP/1.1 503")
        assert server.limits.refused == 1
    deadline = time.monotonic() + PATIENCE_SECONDS
    while server.limits.open:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert answers(server)


def test_an_address_has_so_many_but_a_proxy_has_them_for_its_clients():
    limits = ConnectionLimits(per_address=2, uncounted=lambda address: address == "10.0.0.9")
    assert [limits.enter("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert all(limits.enter(each) for each in ("10.0.0.2", *3 * ("10.0.0.9",), *3 * ("127.0.0.1",)))
    limits.leave("10.0.0.1")
    assert limits.enter("10.0.0.1")


class Slow:
    """Answers when told to, and keeps what was begun, in order."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go_on = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.append(scope["path"])
        while not self.go_on.is_set():
            await asyncio.sleep(0.01)
        await PlainTextResponse("")(scope, receive, send)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_a_flood_is_begun_by_turns_with_others_and_those_who_left_are_not(serve):
    slow = Slow()
    server = serve(slow)
    with contextlib.ExitStack() as open_ends:

        def come(path: str, waiting: int) -> socket.socket:
            end = open_ends.enter_context(server.connect())
            send(end, f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            until(lambda: len(slow.begun) == min(waiting, 2), "nothing is begun")
            until(lambda: server.turns.waiting == max(waiting - 2, 0), f"{path} does not wait")
            return end

        flood = [come(f"/{number}/a", number) for number in range(1, 8)]
        other = come("/8/b", 8)
        flood[2].close()
        flood[3].close()
        until(lambda: server.turns.waiting == 4, "those who left still wait")
        slow.go_on.set()
        assert all(end.recv(100).startswith(b"HTTP/1.1 200") for end in (*flood[4:], other))
    assert slow.begun[:2] == ["/1/a", "/2/a"]
    assert slow.begun.index("/8/b") <= 3, "it came last and is next but one"
    assert sorted(slow.begun) == ["/1/a", "/2/a", "/5/a", "/6/a", "/7/a", "/8/b"]
