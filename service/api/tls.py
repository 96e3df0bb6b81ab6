"""Certificates of both front ends: read from files, and read again once those have changed."""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.settings import ApiSettings

_log = logging.getLogger(__name__)

#: What tells one version of the files from the next: modification times in nanoseconds.
_Stamp = tuple[int, ...]


@dataclass(frozen=True)
class _Loaded:
    stamp: _Stamp
    http: ssl.SSLContext
    grpc: ssl.SSLContext


class Certificates:
    """The server's certificate, its key, and the authority that clients must be certified by.

    Each handshake looks whether the files have changed, so that a certificate that is renewed in
    place needs no restart. Files that do not fit together are left for the next handshake.

    Args:
        certificate: PEM file: the server's certificate and those between it and the root.
        key: PEM file of its private key.
        client_ca: PEM file of the authorities of clients; None: clients need no certificate.

    Raises:
        ValueError: a file cannot be read, or the key is not the certificate's.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        try:
            self._loaded = self._load(self._look())
        except OSError as error:
            named = ", ".join(str(path) for path in self._files)
            raise ValueError(f"cannot serve TLS with {named}: {error}") from None
        self._refused: _Stamp | None = None

    @classmethod
    def of(cls, settings: ApiSettings) -> "Certificates | None":
        """Those that `settings` name; None where they name none."""
        if settings.tls_certificate is None or settings.tls_key is None:
            return None
        return cls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)

    def http_context(self) -> ssl.SSLContext:
        """A context for uvicorn; each handshake goes on with the newest certificate."""
        return self._following(lambda loaded: loaded.http)

    def grpc_context(self) -> ssl.SSLContext:
        """A context for gRPC, which is HTTP/2 and nothing else; it follows likewise."""
        return self._following(lambda loaded: loaded.grpc)

    def _following(self, part: Callable[[_Loaded], ssl.SSLContext]) -> ssl.SSLContext:
        context = part(self._load(self._loaded.stamp))

        def use_newest(handshake: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
            handshake.context = part(self._newest())

        context.sni_callback = use_newest
        return context

    @property
    def _files(self) -> tuple[Path, ...]:
        return tuple(path for path in (self._certificate, self._key, self._client_ca) if path)

    def _newest(self) -> _Loaded:
        try:
            stamp = self._look()
            if stamp not in {self._loaded.stamp, self._refused}:
                self._refused = stamp
                self._loaded = self._load(stamp)
                _log.info("serving a new certificate from %s", self._certificate)
        except OSError as error:
            _log.warning("the certificate stays as it was: %s", error)
        return self._loaded

    def _look(self) -> _Stamp:
        return tuple(path.stat().st_mtime_ns for path in self._files)

    def _load(self, stamp: _Stamp) -> _Loaded:
        http, grpc = self._context(), self._context()
        grpc.set_alpn_protocols(["h2"])
        return _Loaded(stamp, http, grpc)

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate, self._key)
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
