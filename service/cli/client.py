"""A small HTTP client of the service: submit, follow, fetch."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from httpx_sse import ServerSentEvent, connect_sse

from service.domain.generation import Status

#: Pause before an interrupted event stream is opened again, in seconds.
_RECONNECT_SECONDS = 0.5
#: Attempts in a row that brought nothing before the client gives up.
_RECONNECT_ATTEMPTS = 60
#: A final event is named after the status it leads to.
_FINAL_EVENTS = frozenset(status.value for status in Status if status.final)
_CHUNK_BYTES = 1 << 20


class RequestFailedError(Exception):
    """The service refused a request or cannot be reached; the message is fit for people."""


class ServiceClient:
    """Talks to one running service.

    Args:
        url: base URL, such as `http://127.0.0.1:8000`.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=httpx.Timeout(30.0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def create(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Submit a request; returns the accepted generation."""
        return self._json("POST", "/v1/generations", json=fields)

    def generation(self, generation_id: str) -> dict[str, Any]:
        """The record of one generation."""
        return self._json("GET", f"/v1/generations/{generation_id}")

    def cancel(self, generation_id: str) -> dict[str, Any]:
        """Ask a generation to stop."""
        return self._json("DELETE", f"/v1/generations/{generation_id}")

    def models(self) -> list[dict[str, Any]]:
        """What the service offers."""
        models: list[dict[str, Any]] = self._json("GET", "/v1/models")["models"]
        return models

    def events(self, generation_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every event in order, from the first to the final one, across lost connections.

        Raises:
            RequestFailedError: the service refuses, or stays away for too long.
        """
        last_id: str | None = None
        failures = 0
        while failures < _RECONNECT_ATTEMPTS:
            try:
                for sse in self._stream(generation_id, last_id):
                    last_id, failures = sse.id, 0
                    yield sse.event, json.loads(sse.data)
                    if sse.event in _FINAL_EVENTS:
                        return
            except httpx.TransportError:
                pass
            failures += 1
            time.sleep(_RECONNECT_SECONDS)
        raise RequestFailedError(f"the event stream of {generation_id} broke off too often")

    def _stream(self, generation_id: str, last_id: str | None) -> Iterator[ServerSentEvent]:
        """One connection's events; none when the service is away for the moment."""
        path = f"/v1/generations/{generation_id}/events"
        headers = {"Last-Event-ID": last_id} if last_id else {}
        with connect_sse(self._http, "GET", path, headers=headers) as source:
            if source.response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                return
            self._raise_for(source.response)
            # A bare `retry:` or `id:` line comes as an event without data.
            yield from (sse for sse in source.iter_sse() if sse.data)

    def download(self, path: str, target: Path) -> None:
        """Write an artifact to a file, in chunks."""
        with self._http.stream("GET", path, follow_redirects=True) as response:
            self._raise_for(response)
            with target.open("wb") as file:
                for chunk in response.iter_bytes(_CHUNK_BYTES):
                    file.write(chunk)

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise RequestFailedError(
                f"no service answers at {self._http.base_url} ({error}); "
                "start one with 'hidiffusion up' or name one with --server"
            ) from None
        self._raise_for(response)
        document: dict[str, Any] = response.json()
        return document

    @staticmethod
    def _raise_for(response: httpx.Response) -> None:
        if response.is_success:
            return
        response.read()
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        lines = [str(problem.get("detail", f"HTTP status {response.status_code}"))]
        lines += [
            f"  {error['field']}: {error['value']} is not allowed, {error['description']}"
            for error in problem.get("errors", ())
        ]
        raise RequestFailedError("\n".join(lines))
