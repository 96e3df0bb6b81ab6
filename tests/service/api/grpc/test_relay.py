"""Connections of gRPC that never end what they begin, or come all at once: others go on.

Real sockets, gRPC's own server behind the relay, and the event loop that the service runs on.
"""

import asyncio
import contextlib
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop

from service.api.grpc.relay.relay import Relay
from service.api.listening import ConnectionLimits, listen
from service.api.turns import Turns

#: What a server that holds its limits needs for any of this, and a hundred times more.
PATIENCE_SECONDS = 30.0

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4
CANCEL, ENHANCE_YOUR_CALM = 0x8, 0xB


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def field(name: str, value: str) -> bytes:
    """A header as a literal without indexing, RFC 7541, section 6.2.2; up to 126 bytes each."""
    return b"\x00" + b"".join(bytes([len(each)]) + each.encode() for each in (name, value))


CALL = b"".join(
    field(*each)
    for each in (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/test/Echo"),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )
)
BEGIN = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0)
MESSAGE = struct.pack(">BI", 0, 2) + b"hi"
WHOLE = frame(HEADERS, 1, CALL, END_HEADERS) + frame(DATA, 1, MESSAGE, END_STREAM)


class Server:
    """Echoes messages, and the length of streams of them, behind a relay."""

    def __init__(self, turns: Turns, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.begun = 0
        self.address: tuple[str, int] = ("", 0)
        self._turns = turns
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))
        self._thread.start()
        assert self._started.wait(PATIENCE_SECONDS)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        methods = {
            "Echo": grpc.unary_unary_rpc_method_handler(self._echo),
            "Count": grpc.stream_unary_rpc_method_handler(self._count),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", methods),))
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "socket")
            server.add_insecure_port(f"unix:{path}")
            await server.start()
            listener = listen("127.0.0.1", 0)
            self.address = listener.getsockname()
            relay = Relay(listener, path, self.limits, None, self._turns)
            await relay.start()
            self._started.set()
            await self._over.wait()
            relay.close()
            await server.stop(0)
            relay.cut()

    async def _echo(self, data: bytes, _: Any) -> bytes:
        self.begun += 1
        return data

    async def _count(self, pieces: Any, _: Any) -> bytes:
        total = 0
        async for piece in pieces:
            total += len(piece)
        return str(total).encode()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE_SECONDS)

    @contextlib.contextmanager
    def connect(self, begin: bytes = BEGIN, source: str = "127.0.0.2") -> Iterator[socket.socket]:
        with socket.create_connection(
            self.address, timeout=PATIENCE_SECONDS, source_address=(source, 0)
        ) as end:
            end.sendall(begin)
            yield end

    def ask(self, method: str, message: Any = b"hi", timeout: float = PATIENCE_SECONDS) -> bytes:
        with grpc.insecure_channel(
            "{}:{}".format(*self.address),
            options=[
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_receive_message_length", -1),
            ],
        ) as channel:
            make = channel.unary_unary if isinstance(message, bytes) else channel.stream_unary
            answer: bytes = make(f"/test/{method}")(message, timeout=timeout)
            return answer


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(turns: Turns | None = None, **limits: Any) -> Server:
        servers.append(Server(turns or Turns(), ConnectionLimits(**limits)))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def send(end: socket.socket, data: bytes) -> bool:
    """Send it; tells whether the server took it before it closed."""
    try:
        end.sendall(data)
    except OSError:
        return False
    return True


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def told(end: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """Kind, stream and payload of the frames that come until the server closes."""
    with contextlib.suppress(ConnectionResetError), end.makefile("rb") as answer:
        while len(head := answer.read(9)) == 9:
            kind, _, stream = struct.unpack(">xxxBBI", head)
            yield kind, stream, answer.read(int.from_bytes(head[:3], "big"))


def calmed(end: socket.socket) -> bool:
    """Whether the server ends the connection, and says nothing else is wrong if it says so."""
    farewells = [payload for kind, _, payload in told(end) if kind == GOAWAY]
    return all(int.from_bytes(each[4:8], "big") == ENHANCE_YOUR_CALM for each in farewells)


def test_what_is_within_the_limits_passes_unchanged(serve):
    server = serve()
    message = bytes(range(256)) * 20_000
    assert server.ask("Echo", message) == message
    assert server.ask("Count", iter([b"x" * 100_000] * 30)) == b"3000000"


def test_headers_that_never_end_are_refused_and_others_served(serve):
    server = serve()
    more = frame(CONTINUATION, 1, field("x-more", "y" * 100) * 100)
    with server.connect(BEGIN + frame(HEADERS, 1, CALL)) as end:
        taken = sum(send(end, more) for _ in range(5_000))
        assert calmed(end)
    assert taken < 5_000, "55 MB of headers were taken"
    assert server.ask("Echo") == b"hi"


@pytest.mark.parametrize(
    "sent",
    [b"", BEGIN[:10], BEGIN + frame(HEADERS, 1, CALL), BEGIN + frame(HEADERS, 1, CALL)[:20]],
    ids=["nothing", "half a preface", "no end of headers", "half a frame"],
)
def test_what_is_begun_and_not_gone_on_with_is_ended(serve, sent):
    server = serve(head_seconds=0.2)
    with server.connect(sent) as end:
        assert calmed(end)
    assert server.ask("Echo") == b"hi"


def test_a_trickle_does_not_keep_headers_alive(serve):
    server = serve(head_seconds=0.3)
    with server.connect(BEGIN + frame(HEADERS, 1, CALL)) as end:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while send(end, frame(CONTINUATION, 1)):
            assert time.monotonic() < deadline, "it was never ended"
            time.sleep(0.02)


def test_frames_within_headers_and_other_protocols_are_refused(serve):
    server = serve()
    with server.connect(BEGIN + frame(HEADERS, 1, CALL) + frame(PING, 0, bytes(8))) as end:
        assert calmed(end)
    with server.connect(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") as end:
        assert [*told(end)] == []


def test_a_call_whose_message_does_not_come_is_cancelled_and_the_next_is_served(serve):
    server = serve(body_seconds=0.2)
    unfinished = frame(HEADERS, 1, CALL, END_HEADERS) + frame(DATA, 1, MESSAGE[:6])
    with server.connect(BEGIN + unfinished) as end:
        frames = told(end)
        reset = next(each for each in frames if each[0] == RST_STREAM)
        assert reset == (RST_STREAM, 1, struct.pack(">I", CANCEL))
        send(end, WHOLE.replace(b"\0\0\0\1", b"\0\0\0\3"))
        assert next(payload for kind, at, payload in frames if (kind, at) == (DATA, 3)) == MESSAGE
    assert server.begun == 1


def test_half_a_frame_of_a_message_ends_the_connection(serve):
    server = serve(body_seconds=0.2)
    half = frame(HEADERS, 1, CALL, END_HEADERS) + frame(DATA, 1, MESSAGE, END_STREAM)[:-1]
    with server.connect(BEGIN + half) as end:
        assert calmed(end)


def test_a_slow_but_steady_message_is_taken(serve):
    server = serve(body_seconds=0.3)

    def pieces() -> Iterator[bytes]:
        for _ in range(10):
            yield b"z" * 20_000
            time.sleep(0.05)

    assert server.ask("Count", pieces()) == b"200000"


def test_calls_begun_and_reset_by_thousands_take_turns_with_others(serve):
    turns = Turns(at_once=2, seconds=0.05)
    server = serve(turns)
    flood = b"".join(
        frame(HEADERS, each, CALL, END_HEADERS)
        + frame(DATA, each, MESSAGE)
        + frame(RST_STREAM, each, struct.pack(">I", CANCEL))
        for each in range(1, 20_001, 2)
    )
    with server.connect() as end:
        threading.Thread(target=send, args=(end, flood), daemon=True).start()
        until(lambda: turns.waiting == 1, "nothing waits")
        assert server.ask("Echo") == b"hi"
        until(lambda: turns.waiting == 1, "the flood was over before it")


def test_there_is_room_for_so_many_and_again_for_those_who_come_later(serve):
    server = serve(connections=1)
    with server.connect(BEGIN + WHOLE) as first:
        assert any(kind == DATA for kind, _, _ in told(first))
        with server.connect() as second:
            assert [*told(second)] == []
        assert server.limits.refused == 1
    until(lambda: not server.limits.open, "those who left are counted")
    assert server.ask("Echo") == b"hi"


def test_frames_that_ask_for_nothing_leave_others_the_loop(serve):
    server = serve()
    settings = frame(SETTINGS, 0) * 100_000
    with server.connect() as end:
        threading.Thread(target=send, args=(end, settings), daemon=True).start()
        assert server.ask("Echo") == b"hi"
