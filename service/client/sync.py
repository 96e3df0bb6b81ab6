"""The blocking client."""

import os
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from service.client import downloads, following, operations
from service.client.errors import UnreachableError
from service.client.messages import Reply
from service.client.models import Event, Generation, Model, Tile, Upload
from service.client.operations import Request
from service.client.plans import Emit, Open, Pause, Plan, Read, RetryPolicy, Run, Send
from service.client.transport import Address, reply_of, request_options
from service.domain.generations.generation import Status

R = TypeVar("R")


class Client:
    """Talks to one running service; safe to share between threads.

    Lost connections and answers such as 429 and 503 are tried again, after the time the service
    asks for. Creating carries an idempotency key, so that nothing is made twice.

    Args:
        url: base URL, such as `http://127.0.0.1:8000`.
        api_key: where the service asks for one; default: the environment's `HIDIFFUSION_KEY`.
        timeout: seconds until one call without an answer counts as lost.
        retry: how often and how long to try.
        verify: TLS: False, or a context with the service's CA and the client's certificate.

    Raises:
        ValueError: `url` is no HTTP address.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._address = Address(url, api_key or os.environ.get("HIDIFFUSION_KEY"), timeout)
        self._retry = retry
        self._http = httpx.Client(**self._address.options, verify=verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def create(self, request: Request, *, idempotency_key: str | None = None) -> Generation:
        """Ask for a picture.

        Args:
            request: the fields of `POST /v1/generations`, as a dict or a `GenerationRequest`.
            idempotency_key: the same key and request give the same generation; drawn by default.

        Raises:
            ApiError: the service refuses it.
            UnreachableError: no answer came, however often it was tried.
        """
        return self._complete(operations.create(request, idempotency_key, self._retry))

    def create_batch(
        self, request: Request, n: int, *, idempotency_key: str | None = None
    ) -> tuple[Generation, ...]:
        """Ask for `n` pictures that differ in their seeds; all are accepted, or none."""
        return self._complete(operations.create_batch(request, n, idempotency_key, self._retry))

    def get(self, generation_id: str) -> Generation:
        """Read one record."""
        return self._complete(operations.get(generation_id, self._retry))

    def list(
        self, *, status: Status | str | None = None, page_size: int = 20
    ) -> Iterator[Generation]:
        """Every record, or those with one status, newest first; pages come as they are needed."""
        return self._steps(operations.each(status, page_size, self._retry))

    def cancel(self, generation_id: str) -> Generation:
        """Tell a generation to stop; one that is final is returned as it is."""
        return self._complete(operations.cancel(generation_id, self._retry))

    def delete(self, generation_id: str) -> None:
        """Cancel a generation and delete its record with all that it left."""
        self._complete(operations.delete(generation_id, self._retry))

    def models(self) -> tuple[Model, ...]:
        """Every model on offer; the first is the default."""
        return self._complete(operations.models(self._retry))

    def upload(self, data: bytes, *, media_type: str = "image/png") -> Upload:
        """Store a picture that requests can start from, by its id."""
        return self._complete(operations.upload(data, media_type, self._retry))

    def read_recipe(self, data: bytes) -> dict[str, Any]:
        """The fields of a request for the same picture, as a PNG of ours or of A1111 has them."""
        return self._complete(operations.read_recipe(data, self._retry))

    def events(
        self, generation_id: str, *, after: str | None = None, timeout: float | None = None
    ) -> Iterator[Event]:
        """Every event once and in order, up to the final one, across lost connections.

        Args:
            generation_id: whose.
            after: id of the last event that is known already; None begins with the first.
            timeout: seconds until `WaitTimeoutError`. It is looked at whenever the service says
                something, which it does every 15 s or sooner.
        """
        return self._steps(following.events(generation_id, after, timeout, self._retry))

    def wait(
        self,
        generation_id: str,
        *,
        on_event: Callable[[Event], object] | None = None,
        timeout: float | None = None,
    ) -> Generation:
        """Wait for a generation, and return its record once it has succeeded.

        Args:
            generation_id: which.
            on_event: called with every event, for progress.
            timeout: seconds; as in `events`.

        Raises:
            GenerationFailedError: it failed.
            GenerationCancelledError: it was cancelled.
            WaitTimeoutError: it is not final in time; it goes on.
        """
        return self._complete(following.wait(generation_id, timeout, self._retry), on_event)

    def generate(
        self,
        request: Request,
        *,
        on_event: Callable[[Event], object] | None = None,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> Generation:
        """Ask for a picture and wait for it: `create`, then `wait`."""
        plan = following.generate(request, idempotency_key, timeout, self._retry)
        return self._complete(plan, on_event)

    def tiles(self, generation_id: str, *, timeout: float | None = None) -> Iterator[Tile]:
        """Every tile with its bytes as it lands; a lost attempt's successor may repeat some.

        Raises:
            GenerationFailedError: it failed.
            GenerationCancelledError: it was cancelled.
        """
        return self._steps(following.tiles(generation_id, timeout, self._retry))

    def download(self, generation_id: str, target: Path | str) -> Path:
        """Write the full-size picture to a file, whole and checked, or not at all.

        A download that broke off goes on where it stopped, in a later call too.

        Raises:
            NotReadyError: the generation is not final yet.
            DownloadCorruptedError: what arrived has another SHA-256, twice.
        """
        return self._complete(downloads.download(generation_id, Path(target), self._retry))

    def _complete(self, plan: Plan[R], on_emit: Callable[[Any], object] | None = None) -> R:
        steps = self._steps(plan)
        while True:
            try:
                value = next(steps)
            except StopIteration as stop:
                result: R = stop.value
                return result
            if on_emit is not None:
                on_emit(value)

    def _steps(self, plan: Plan[R]) -> Generator[Any, None, R]:
        """Perform a plan; yields what it emits."""
        answer: Any = None
        lost: UnreachableError | None = None
        with closing(_Connection(self._http, self._address)) as connection, closing(plan):
            while True:
                try:
                    action = plan.send(answer) if lost is None else plan.throw(lost)
                except StopIteration as stop:
                    result: R = stop.value
                    return result
                answer = lost = None
                if isinstance(action, Emit):
                    yield action.value
                    continue
                try:
                    answer = connection.perform(action)
                except httpx.TransportError as error:
                    lost = self._address.lost(error)


class _Connection:
    """Performs actions; at most one answer is open at a time."""

    def __init__(self, http: httpx.Client, address: Address) -> None:
        self._http, self._address = http, address
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def perform(self, action: Send | Open | Read | Pause | Run) -> Any:
        match action:
            case Send(call):
                response = self._http.request(**request_options(call))
                return reply_of(response, response.content)
            case Open():
                return self._open(action)
            case Read():
                return next(self._chunks, b"")
            case Pause(seconds):
                time.sleep(seconds)
            case Run(work):
                return work()
        return None

    def _open(self, action: Open) -> Reply:
        self.close()
        request = self._http.build_request(**self._address.stream_options(action))
        self._response = self._http.send(request, stream=True, follow_redirects=True)
        content = b"" if self._response.is_success else self._response.read()
        self._chunks = self._response.iter_bytes()
        return reply_of(self._response, content)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
