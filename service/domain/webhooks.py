"""Webhooks: where a client wants to be called, and which addresses that may lead to.

A service that calls whatever it is told to is a way into the network it stands in. So a webhook
leads to public addresses only, unless the operator names a host or a network.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Self, get_args
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field

WebhookEvent = Literal["generation.succeeded", "generation.failed", "generation.cancelled"]
#: Every event there is, one for each final state.
WEBHOOK_EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)

MAX_URL_CHARACTERS = 2000

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Addresses that stand for the IPv4 address in their last 32 bits (RFC 6052, section 2.1).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


#: Not global, though they look it: the relay for 6to4 (RFC 7526), and Azure's services of a host,
#: which every virtual machine reaches there.
_NOT_PUBLIC = (
    ipaddress.IPv4Network("192.88.99.0/24"),
    ipaddress.IPv4Network("168.63.129.16/32"),
)

#: Ports that are called at hosts which the operator did not name.
PORTS = (443, 8443)


class Webhook(BaseModel):
    """Where to call, and for which of the final states."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_URL_CHARACTERS,
            description="An https URL at a public address; it gets a signed POST.",
            examples=["https://example.com/hooks/pictures"],
        ),
    ]
    events: Annotated[
        list[WebhookEvent],
        Field(min_length=1, max_length=len(WEBHOOK_EVENTS), description="Default: all."),
    ] = list(WEBHOOK_EVENTS)


@dataclass(frozen=True)
class Targets:
    """What webhooks may lead to besides public addresses.

    Attributes:
        hosts: names whose addresses are not looked at.
        networks: addresses that are allowed whatever name leads to them.
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[IPNetwork, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Self:
        """Read host names, addresses and networks such as `10.1.0.0/16`."""
        hosts, networks = set(), []
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry))
            except ValueError:
                if "/" in entry:
                    raise ValueError(
                        f"the allowed target {entry!r} is no network; write host names, addresses "
                        "or networks such as 10.1.0.0/16"
                    ) from None
                hosts.add(_bare(entry))
        return cls(frozenset(hosts), tuple(networks))

    def allows(self, host: str, address: IPAddress) -> bool:
        """Whether a connection to `address` may be made for the sake of `host`."""
        return self.named(host) or is_public(address) or self._in_networks(address)

    def named(self, host: str) -> bool:
        """Whether the operator named this host, or the network of the address that it is."""
        literal = _literal(host)
        return _bare(host) in self.hosts or (literal is not None and self._in_networks(literal))

    def broken_rule(self, url: str) -> str | None:
        """Why `url` cannot be called, as far as it can be told without looking up its name."""
        parts = split_url(url)
        if parts is None or parts.hostname is None:
            return "a URL such as https://example.com/hooks is needed, in ASCII"
        if parts.username is not None or parts.password is not None:
            return "a URL with a user name or password is not called; drop them"
        host = parts.hostname
        if self.named(host):
            return None
        if parts.scheme != "https":
            return "only https is called"
        literal = _literal(host)
        private = not is_public(literal) if literal is not None else _looks_local(host)
        if private:
            return "only public addresses are called"
        known = (parts.port or PORTS[0]) in PORTS
        return None if known else f"only the ports {PORTS[0]} and {PORTS[1]} are called"

    def _in_networks(self, address: IPAddress) -> bool:
        return any(address in network for network in self.networks)


def split_url(url: str) -> SplitResult | None:
    """The parts of an http or https URL; None when it is not one."""
    if not all("!" <= letter <= "~" and letter not in '\\"<>^`{|}' for letter in url):
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def is_public(address: IPAddress) -> bool:
    """Whether `address`, or any that it stands for, belongs to the public internet."""
    return all(
        each.is_global
        and not any(each in network for network in _NOT_PUBLIC)
        and not (each.is_multicast or each.is_reserved or each.is_unspecified)
        and not (isinstance(each, ipaddress.IPv6Address) and each.is_site_local)
        for each in _stands_for(address)
    )


def _stands_for(address: IPAddress) -> list[IPAddress]:
    """The address itself, or the IPv4 addresses that a v6 address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    inner = [address.sixtofour, *(address.teredo or ())]
    return [address, *(each for each in inner if each is not None)]


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(_bare(host))
    except ValueError:
        return None


def _looks_local(host: str) -> bool:
    """Names of this machine, and old spellings of IPv4 addresses such as 127.1 or 0x7f000001."""
    last = _bare(host).rpartition(".")[2]
    return last == "localhost" or last.isdigit() or last.startswith("0x")


def _bare(host: str) -> str:
    return host.lower().rstrip(".")
