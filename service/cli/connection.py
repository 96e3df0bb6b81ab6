"""How the command line reaches a service: where it is, and which certificates it takes."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer

from service.client import Client
from service.settings import ApiSettings

_SECURITY = "Certificates"

ServerOption = Annotated[
    str | None,
    typer.Option("--server", envvar="HIDIFFUSION_SERVER", help="URL of a running service."),
]
AuthorityOption = Annotated[
    Path | None,
    typer.Option(
        "--ca-certificate",
        envvar="HIDIFFUSION_CA_CERTIFICATE",
        help="PEM file of the authority that certifies the service; default: the system's own.",
        rich_help_panel=_SECURITY,
    ),
]
CertificateOption = Annotated[
    Path | None,
    typer.Option(
        "--client-certificate",
        envvar="HIDIFFUSION_CLIENT_CERTIFICATE",
        help="PEM file of the certificate to show, for a service that asks for one.",
        rich_help_panel=_SECURITY,
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--client-key",
        envvar="HIDIFFUSION_CLIENT_KEY",
        help="PEM file of its private key, unless that is in the same file.",
        rich_help_panel=_SECURITY,
    ),
]


@dataclass(frozen=True)
class Connection:
    """A service and how to speak to it.

    Attributes:
        url: its base URL.
        verify: as `service.client.Client` takes it.
        lasting: whether the service goes on when the command has ended.
    """

    url: str
    verify: ssl.SSLContext | bool = True
    lasting: bool = True

    def client(self) -> Client:
        """A client of the service."""
        return Client(self.url, verify=self.verify)


def trust(
    authority: Path | None, certificate: Path | None, key: Path | None
) -> ssl.SSLContext | bool:
    """What `Connection.verify` is to be for the files that were named.

    Raises:
        ValueError: a file cannot be read, or they do not fit together.
    """
    if authority is certificate is key is None:
        return True
    if key is not None and certificate is None:
        raise ValueError(f"{str(key)!r} is the key of no certificate; give --client-certificate")
    named = ", ".join(repr(str(path)) for path in (authority, certificate, key) if path)
    try:
        context = ssl.create_default_context(cafile=authority)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"no certificates and key in PEM in {named}: {error}") from None
    return context


def local_service(settings: ApiSettings, verify: ssl.SSLContext | bool) -> Connection | None:
    """The service that runs here, as the settings have it, when it is ready."""
    scheme = "http" if settings.tls_certificate is None else "https"
    url = f"{scheme}://{settings.host}:{settings.http_port}"
    try:
        ready = httpx.get(f"{url}/readyz", timeout=1.0, verify=verify)
    except httpx.TransportError:
        return None
    return Connection(url, verify) if ready.is_success else None
