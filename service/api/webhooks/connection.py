"""Connections that lead only where webhooks may lead.

The address that is checked is the address that is connected to: a name that resolves to something
else a moment later (DNS rebinding) gains nothing. TLS and the Host header still see the name.
"""

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import httpcore

from service.domain.webhooks import Targets


class TargetRefused(Exception):
    """The name leads to an address that may not be called."""


class GuardedBackend(httpcore.NetworkBackend):
    """Resolves a name, and connects to its addresses only if all of them are allowed.

    Args:
        targets: what may be called.
    """

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of `host` that answers.

        Raises:
            TargetRefused: one of its addresses may not be called.
            httpcore.ConnectError: the name is unknown, or nothing answers.
        """
        failure: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for address in self._addresses(host, port):
            try:
                return self._plain.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host!r} has no address")

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host!r} cannot be resolved: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if not self._targets.allows(host, ipaddress.ip_address(address)):
                raise TargetRefused(f"{host!r} leads to {address}, which is not public")
        return addresses
