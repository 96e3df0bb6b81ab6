"""The server's side of a connection."""

import asyncio
from typing import Protocol

from service.api.grpc.relay import frames

#: Why a client is not read from when the server is busy.
FULL = "full"


class Client(Protocol):
    """What the server's side asks of the client's."""

    transport: asyncio.Transport

    def stop(self, why: str) -> None:
        """Do not read from it for now."""

    def go_on(self, why: str) -> None:
        """Read from it again, unless there is another reason not to."""

    def answered(self, stream: int, *, ended: bool) -> None:
        """The server answers on this stream, and maybe ends it."""


class ServerSide(asyncio.Protocol):
    """What gRPC's own server sends, and whether it is busy."""

    transport: asyncio.Transport

    def __init__(self, client: Client) -> None:
        self._client = client
        self._passing = 0
        self._head = b""

    @property
    def between_frames(self) -> bool:
        """Whether all that was passed on are whole frames."""
        return not self._passing and not self._head

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember it."""
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The client's ends too, with what it has still to read."""
        self._client.transport.close()

    def data_received(self, data: bytes) -> None:
        """Pass it on, and see which calls are answered."""
        self._client.transport.write(data)
        data, at = self._head + data if self._head else data, 0
        self._head = b""
        while at < len(data):
            if self._passing:
                passed = min(self._passing, len(data) - at)
                self._passing -= passed
                at += passed
            elif len(data) - at < frames.HEAD_BYTES:
                self._head = data[at:]
                return
            else:
                self._passing, kind, flags, stream = frames.head_at(data, at)
                at += frames.HEAD_BYTES
                if kind in {frames.HEADERS, frames.RST_STREAM}:
                    ended = kind == frames.RST_STREAM or bool(flags & frames.END_STREAM)
                    self._client.answered(stream, ended=ended)

    def pause_writing(self) -> None:
        """The server is busy."""
        self._client.stop(FULL)

    def resume_writing(self) -> None:
        """It is not any more."""
        self._client.go_on(FULL)
