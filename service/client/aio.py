"""The client for event loops; each method does as its namesake in `sync.py`."""

import asyncio
import inspect
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, closing
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

#: A callback may be a plain function or a coroutine function.
OnEvent = Callable[[Event], Awaitable[object] | object]


class AsyncClient:
    """Talks to one running service from an event loop; the arguments are those of `Client`.

    Iterators that are left early should be closed, with `contextlib.aclosing`.
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
        self._http = httpx.AsyncClient(**self._address.options, verify=verify)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def create(self, request: Request, *, idempotency_key: str | None = None) -> Generation:
        """Ask for a picture."""
        return await self._complete(operations.create(request, idempotency_key, self._retry))

    async def create_batch(
        self, request: Request, n: int, *, idempotency_key: str | None = None
    ) -> tuple[Generation, ...]:
        """Ask for `n` pictures that differ in their seeds; all are accepted, or none."""
        plan = operations.create_batch(request, n, idempotency_key, self._retry)
        return await self._complete(plan)

    async def get(self, generation_id: str) -> Generation:
        """Read one record."""
        return await self._complete(operations.get(generation_id, self._retry))

    def list(
        self, *, status: Status | str | None = None, page_size: int = 20
    ) -> AsyncIterator[Generation]:
        """Every record, or those with one status, newest first; pages come as they are needed."""
        return self._emitted(operations.each(status, page_size, self._retry))

    async def cancel(self, generation_id: str) -> Generation:
        """Tell a generation to stop; one that is final is returned as it is."""
        return await self._complete(operations.cancel(generation_id, self._retry))

    async def delete(self, generation_id: str) -> None:
        """Cancel a generation and delete its record with all that it left."""
        await self._complete(operations.delete(generation_id, self._retry))

    async def models(self) -> tuple[Model, ...]:
        """Every model on offer; the first is the default."""
        return await self._complete(operations.models(self._retry))

    async def upload(self, data: bytes, *, media_type: str = "image/png") -> Upload:
        """Store a picture that requests can start from, by its id."""
        return await self._complete(operations.upload(data, media_type, self._retry))

    async def read_recipe(self, data: bytes) -> dict[str, Any]:
        """As `Client.read_recipe`."""
        return await self._complete(operations.read_recipe(data, self._retry))

    def events(
        self, generation_id: str, *, after: str | None = None, timeout: float | None = None
    ) -> AsyncIterator[Event]:
        """Every event once and in order, up to the final one, across lost connections."""
        return self._emitted(following.events(generation_id, after, timeout, self._retry))

    async def wait(
        self,
        generation_id: str,
        *,
        on_event: OnEvent | None = None,
        timeout: float | None = None,
    ) -> Generation:
        """Wait for a generation, and return its record once it has succeeded."""
        return await self._complete(following.wait(generation_id, timeout, self._retry), on_event)

    async def generate(
        self,
        request: Request,
        *,
        on_event: OnEvent | None = None,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> Generation:
        """Ask for a picture and wait for it: `create`, then `wait`."""
        plan = following.generate(request, idempotency_key, timeout, self._retry)
        return await self._complete(plan, on_event)

    def tiles(self, generation_id: str, *, timeout: float | None = None) -> AsyncIterator[Tile]:
        """Every tile with its bytes as it lands; a lost attempt's successor may repeat some."""
        return self._emitted(following.tiles(generation_id, timeout, self._retry))

    async def download(self, generation_id: str, target: Path | str) -> Path:
        """Write the full-size picture to a file, whole and checked, or not at all."""
        plan = downloads.download(generation_id, Path(target), self._retry)
        return await self._complete(plan)

    async def _complete(self, plan: Plan[R], on_emit: OnEvent | None = None) -> R:
        result: list[R] = []
        async with aclosing(self._steps(plan, result.append)) as steps:
            async for value in steps:
                called = None if on_emit is None else on_emit(value)
                if inspect.isawaitable(called):
                    await called
        return result[0]

    def _emitted(self, plan: Plan[None]) -> AsyncGenerator[Any]:
        return self._steps(plan, lambda _: None)

    async def _steps(self, plan: Plan[R], done: Callable[[R], None]) -> AsyncGenerator[Any]:
        """Perform a plan; yields what it emits, and tells what it returns."""
        answer: Any = None
        lost: UnreachableError | None = None
        async with aclosing(_Connection(self._http, self._address)) as connection:
            with closing(plan):
                while True:
                    try:
                        action = plan.send(answer) if lost is None else plan.throw(lost)
                    except StopIteration as stop:
                        done(stop.value)
                        return
                    answer = lost = None
                    if isinstance(action, Emit):
                        yield action.value
                        continue
                    try:
                        answer = await connection.perform(action)
                    except httpx.TransportError as error:
                        lost = self._address.lost(error)


class _Connection:
    """Performs actions; at most one answer is open at a time."""

    def __init__(self, http: httpx.AsyncClient, address: Address) -> None:
        self._http, self._address = http, address
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def perform(self, action: Send | Open | Read | Pause | Run) -> Any:
        match action:
            case Send(call):
                response = await self._http.request(**request_options(call))
                return reply_of(response, response.content)
            case Open():
                return await self._open(action)
            case Read():
                return b"" if self._chunks is None else await anext(self._chunks, b"")
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Run(work):
                return await asyncio.to_thread(work)
        return None

    async def _open(self, action: Open) -> Reply:
        await self.aclose()
        request = self._http.build_request(**self._address.stream_options(action))
        self._response = await self._http.send(request, stream=True, follow_redirects=True)
        content = b"" if self._response.is_success else await self._response.aread()
        self._chunks = self._response.aiter_bytes()
        return reply_of(self._response, content)

    async def aclose(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None
