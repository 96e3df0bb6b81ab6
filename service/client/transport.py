"""What both drivers need to know of httpx."""

import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from service.client.errors import UnreachableError, UntrustedError
from service.client.messages import Call, Reply
from service.client.plans import Open


class Address:
    """Where the service is and how to speak to it.

    Args:
        url: base URL, such as `http://127.0.0.1:8000`.
        api_key: sent as a bearer token.
        timeout: seconds until one call without an answer counts as lost.

    Raises:
        ValueError: `url` is no HTTP address.
    """

    def __init__(self, url: str, api_key: str | None, timeout: float) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no address of a service; give one such as https://host")
        self._url = url
        self._api_key = api_key
        self._timeout = timeout

    @property
    def options(self) -> dict[str, Any]:
        """Options of the httpx client."""
        headers = {} if self._api_key is None else {"Authorization": f"Bearer {self._api_key}"}
        return {"base_url": self._url, "headers": headers, "timeout": self._timeout}

    def stream_options(self, action: Open) -> dict[str, Any]:
        """Options of a request whose answer is read bit by bit; bytes come as they are stored."""
        options = request_options(action.call)
        options["headers"] = {**action.call.headers, "Accept-Encoding": "identity"}
        options["timeout"] = httpx.Timeout(self._timeout, read=action.silence)
        return options

    def lost(self, error: httpx.TransportError) -> UnreachableError:
        """What to tell when no answer came."""
        why = str(error) or type(error).__name__
        if _is_refusal(error):
            return UntrustedError(
                f"no secure connection to {self._url} ({why}); check its certificate authority, "
                "and the certificate that it asks for"
            )
        return UnreachableError(
            f"no service answers at {self._url} ({why}); check the address, "
            "or start a service with 'hidiffusion up'"
        )


def _is_refusal(error: BaseException) -> bool:
    """Whether TLS failed by what the two sides are, and not by a connection that broke."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    broke = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    return cause is not None and not isinstance(cause, broke)


def request_options(call: Call) -> dict[str, Any]:
    """The arguments of httpx for a call."""
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.params),
        "headers": dict(call.headers),
        "json": call.json,
        "content": call.content,
    }


def reply_of(response: httpx.Response, content: bytes) -> Reply:
    """The answer, free of httpx."""
    headers: Mapping[str, str] = response.headers
    return Reply(response.status_code, headers, content)
