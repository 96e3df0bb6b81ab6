"""Where connections come in, and how many may: what both front ends have in common."""

import ipaddress
import logging
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.settings import ApiSettings

_log = logging.getLogger(__name__)

#: Connections that wait to be accepted; of those who find no room, some wait for 15 s.
BACKLOG = 4096

#: Seconds between two lines in the log that tell of refused connections.
_TELL_SECONDS = 10.0

#: Descriptors kept for what is no client's connection: Redis's, the store's, files.
_SPARE_DESCRIPTORS = 256

_LOOPBACK = ("127.", "::1", "::ffff:127.")


@dataclass
class ConnectionLimits:
    """The limits, and how many connections there are.

    Attributes:
        connections: most at a time.
        per_address: most at a time of one address; proxies and this machine are not counted.
        head_bytes: longest request line and headers.
        headers: most headers.
        head_seconds: from the first byte, or the connection, to the end of the headers.
        body_seconds: from there to the end of the body; each 16 KiB that arrive add a second.
        uncounted: whether an address is that of a proxy.
    """

    connections: int = 4000
    per_address: int = 200
    head_bytes: int = 64 * 1024
    headers: int = 100
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    uncounted: Callable[[str], bool] = lambda _: False
    open: int = 0
    refused: int = 0
    _by_address: Counter[str] = field(default_factory=Counter)
    _tell_at: float = 0.0

    def enter(self, address: str) -> bool:
        """Count a connection; False, and nothing is counted, when there is no room for it."""
        full = self.open >= self.connections
        if full or (self._counts(address) and self._by_address[address] >= self.per_address):
            self._refuse(address, "in all" if full else "of this address")
            return False
        self.open += 1
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Undo `enter`."""
        self.open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _counts(self, address: str) -> bool:
        return bool(address) and not address.startswith(_LOOPBACK) and not self.uncounted(address)

    def _refuse(self, address: str, which: str) -> None:
        self.refused += 1
        if time.monotonic() >= self._tell_at:
            self._tell_at = time.monotonic() + _TELL_SECONDS
            _log.warning(
                "refused a connection from %s: there are as many as are allowed %s; %d are open, "
                "%d were refused so far", address or "?", which, self.open, self.refused,
            )  # fmt: skip


def http_limits(settings: ApiSettings) -> ConnectionLimits:
    """As the settings say, as far as there are descriptors; the process gets all it may have.

    Raises:
        ValueError: a trusted proxy is neither an address nor a network.
    """
    return _limits(settings, settings.max_connections, 2 / 5)


def grpc_limits(settings: ApiSettings) -> ConnectionLimits:
    """Half as many connections: each has three descriptors here, and up to a thousand calls.

    Raises:
        ValueError: a trusted proxy is neither an address nor a network.
    """
    return _limits(settings, settings.max_connections // 2, 1 / 5)


def _limits(settings: ApiSettings, wanted: int, part: float) -> ConnectionLimits:
    """So many connections, or as many as a part of the descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = wanted
    if hard != resource.RLIM_INFINITY and (room := int((hard - _SPARE_DESCRIPTORS) * part)) < most:
        _log.warning("%d descriptors are allowed: %d connections, not %d", hard, room, wanted)
        most = room
    return ConnectionLimits(
        connections=max(1, most),
        per_address=settings.max_connections_per_address,
        uncounted=proxies(settings.trusted_proxies),
    )


def listen(host: str, port: int) -> socket.socket:
    """A TCP socket that listens for HTTP.

    Connections send at once: they take that from the listener, because asyncio sets it only on
    sockets that name their protocol, and `create_server` makes others. Without it the second part
    of an answer waits for the client's delayed acknowledgement of the first, 40 ms on Linux.

    Raises:
        OSError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def proxies(trusted: Sequence[str]) -> Callable[[str], bool]:
    """Tells which addresses are those of trusted proxies.

    Raises:
        ValueError: one is neither an address nor a network.
    """
    networks = [ipaddress.ip_network(each) for each in trusted]

    def is_proxy(address: str) -> bool:
        try:
            known = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(known in network for network in networks)

    return is_proxy
