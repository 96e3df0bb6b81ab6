"""Fetch the pictures that requests name by URL, from where webhooks may lead too."""

import ssl
from urllib.parse import urljoin

import httpcore

from service.api.webhooks.connection import Deadline, GuardedBackend, TargetRefused
from service.domain.requests.uploads import BadPicture
from service.domain.webhooks import MAX_URL_CHARACTERS, Targets, split_url

_HEADERS = (
    ("user-agent", "hidiffusion-pictures/1"),
    ("accept", "image/png, image/jpeg, image/webp"),
    ("accept-encoding", "identity"),
)
_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 3
_INSTEAD = "upload the picture instead"


class PictureFetcher:
    """Gets files by URL; every address is checked that is connected to, redirects included.

    Args:
        targets: what may be asked besides public addresses.
        max_bytes: longest file.
        seconds: longest that all of it may take.
    """

    def __init__(self, targets: Targets, max_bytes: int, seconds: float) -> None:
        self._targets = targets
        self._tls = ssl.create_default_context()
        self._max_bytes = max_bytes
        self._seconds = seconds

    def __call__(self, url: str) -> bytes:
        """The file at `url`, whatever it is.

        Raises:
            BadPicture: it may not be asked for, or did not come, or is too long.
        """
        deadline = Deadline(self._seconds)
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                found = self._get(url, deadline)
                if isinstance(found, bytes):
                    return found
                url = urljoin(url, found)
        except TargetRefused:
            raise BadPicture(f"only public addresses are asked; {_INSTEAD}") from None
        except httpcore.TimeoutException:
            rule = f"it did not come within {self._seconds:g} s; {_INSTEAD}"
            raise BadPicture(rule) from None
        except (httpcore.NetworkError, httpcore.ProtocolError):
            raise BadPicture(f"nobody answers there; {_INSTEAD}") from None
        raise BadPicture(f"it is redirected more than {_MAX_REDIRECTS} times; {_INSTEAD}")

    def _get(self, url: str, deadline: Deadline) -> bytes | str:
        """The file, or where it is said to be."""
        parts = split_url(url) if len(url) <= MAX_URL_CHARACTERS else None
        if parts is None or parts.hostname is None:
            raise BadPicture(f"a URL in ASCII of up to {MAX_URL_CHARACTERS} characters is needed")
        if rule := self._targets.broken_rule(url):
            raise BadPicture(f"{rule}; {_INSTEAD}")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        where = httpcore.URL(
            scheme=parts.scheme, host=parts.hostname, port=parts.port, target=target
        )
        backend = GuardedBackend(self._targets, deadline)
        with (
            httpcore.ConnectionPool(self._tls, network_backend=backend) as pool,
            pool.stream("GET", where, headers=list(_HEADERS)) as response,
        ):
            if response.status in _REDIRECTS:
                headers = {name.lower(): value for name, value in response.headers}
                return headers.get(b"location", b"").decode("ascii", "replace")
            if response.status != 200:
                raise BadPicture(f"the answer there is {response.status}; {_INSTEAD}")
            return self._whole(response)

    def _whole(self, response: httpcore.Response) -> bytes:
        data = bytearray()
        for part in response.iter_stream():
            data += part
            if len(data) > self._max_bytes:
                raise BadPicture(f"it is longer than the {self._max_bytes} bytes that are taken")
        return bytes(data)
