"""The listener of a relay, and its end."""

import asyncio
import socket
import ssl

from service.api.grpc.relay.client import ClientSide, Common
from service.api.grpc.relay.pace import Pace
from service.api.listening import BACKLOG, ConnectionLimits
from service.api.turns import Turns


class Relay:
    """Passes connections of gRPC's clients on to the server.

    Args:
        listener: where they come in.
        path: of the Unix socket where gRPC's own server listens.
        limits: on connections, bytes and time of headers, time of messages.
        context: for TLS; None: without.
        turns: whose call is passed on next; lanes are addresses, or connections of a proxy.
    """

    def __init__(
        self,
        listener: socket.socket,
        path: str,
        limits: ConnectionLimits,
        context: ssl.SSLContext | None,
        turns: Turns,
    ) -> None:
        self._listener = listener
        self._context = context
        self._common = Common(path, limits, turns, Pace(limits.uncounted))
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to accept connections."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: ClientSide(self._common),
            sock=self._listener,
            backlog=BACKLOG,
            ssl=self._context,
            ssl_handshake_timeout=self._common.limits.head_seconds if self._context else None,
        )

    def close(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()
        self._listener.close()

    def cut(self) -> None:
        """End the connections that there are."""
        for client in [*self._common.clients]:
            client.transport.abort()
