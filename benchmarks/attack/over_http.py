"""Attacks over HTTP: each is called again and again, in a thread of its own, until it is killed."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable

import httpx

Address = tuple[str, int]

#: Is given the address to attack, and a path.
Attack = Callable[[Address, str], None]

#: For which streams are held before they are dropped and opened again.
HOLD_SECONDS = 5.0

_GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"
_POST = b"POST /v1/generations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000\r\n\r\n{"


def endless_header(address: Address, _: str) -> None:
    """One header that never ends, again and again."""
    with socket.create_connection(address, 10) as end, contextlib.suppress(OSError):
        end.sendall(_GET + b"x: ")
        for _round in range(1000):
            end.sendall(b"y" * 65536)


def unfinished(begin: bytes) -> Attack:
    """A connection that sends this and a byte a second."""

    def attack(address: Address, _: str) -> None:
        with socket.create_connection(address, 10) as end, contextlib.suppress(OSError):
            end.sendall(begin)
            while True:
                time.sleep(1)
                end.sendall(b"x")

    return attack


def conversion(address: Address, path: str) -> None:
    """The whole of a large picture in another format."""
    with contextlib.suppress(httpx.HTTPError):
        httpx.get(f"http://{address[0]}:{address[1]}{path}", timeout=60)


def streams(count: int) -> Attack:
    """So many streams of one generation's events, opened at once, held a moment, and dropped."""

    async def open_one(address: Address, path: str) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        await reader.readuntil(b"id: ")
        return writer

    async def open_all(address: Address, path: str) -> None:
        opening = (open_one(address, path) for _ in range(count))
        opened = await asyncio.gather(*opening, return_exceptions=True)
        await asyncio.sleep(HOLD_SECONDS)
        for each in opened:
            if isinstance(each, asyncio.StreamWriter):
                each.transport.abort()

    def attack(address: Address, path: str) -> None:
        asyncio.run(open_all(address, path))

    return attack


#: How many at a time, by name.
ATTACKS: dict[str, tuple[int, Attack]] = {
    "endless header": (8, endless_header),
    "unfinished headers": (200, unfinished(_GET)),
    "unfinished bodies": (200, unfinished(_POST)),
    "60 conversions": (60, conversion),
    "1,000 event streams": (1, streams(1000)),
    "2,500 event streams": (1, streams(2500)),
}
