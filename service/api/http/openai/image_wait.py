"""Wait for pictures on behalf of a client that stays on the line."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request

from service.api.http.edge.presence import gone
from service.api.http.errors.image_errors import refuse_unfinished
from service.api.streams import until
from service.application.batch import GenerateBatch
from service.application.use_cases import UseCases
from service.domain.errors import Unavailable, WaitedTooLong
from service.domain.generations.events import Event
from service.domain.generations.generation import Generation


class ImageWait:
    """The pictures one request waits for.

    Args:
        use_cases: what tells of them.
        accepted: their records.
        seconds: how long to wait.
        stopping: set when the server shuts down.
        keep: let them be made also when nobody waits any longer.
    """

    def __init__(
        self,
        use_cases: UseCases,
        accepted: Sequence[Generation],
        seconds: float,
        stopping: asyncio.Event,
        *,
        keep: bool,
    ) -> None:
        self._use_cases = use_cases
        self._batch = GenerateBatch(use_cases)
        self._accepted = accepted
        self._seconds = seconds
        self._stopping = stopping
        self._keep = keep

    @property
    def first(self) -> Generation:
        """The first picture, as it was accepted."""
        return self._accepted[0]

    async def all(self, http: Request) -> list[Generation]:
        """The records, each of them succeeded.

        Raises:
            GenerationFailed: one of them failed.
            GenerationCancelled: somebody cancelled one.
            WaitedTooLong: one of them is not final in time.
            Unavailable: the server shuts down.
            ClientDisconnect: the client went away.
        """
        async with self._giving_up():
            done = await self._unless_interrupted(http)
            for generation in done:
                refuse_unfinished(generation, self._seconds)
            return done

    async def events(self) -> AsyncGenerator[Event | None]:
        """What happens to the first picture, as it happens; None: nothing new, still alive.

        Raises:
            ServiceError: as `all` does.
        """
        generation = self._accepted[0]
        deadline = asyncio.get_running_loop().time() + self._seconds
        async with self._giving_up():
            source = await self._use_cases.watch(generation.id)
            async with aclosing(until(self._stopping, source)) as events:
                async for stored in events:
                    if asyncio.get_running_loop().time() > deadline:
                        raise WaitedTooLong(generation.id, self._seconds)
                    yield stored.event if stored else None
            found = await anyio.to_thread.run_sync(self._use_cases.query.generation, generation.id)
            refuse_unfinished(found, self._seconds)

    async def _unless_interrupted(self, http: Request) -> list[Generation]:
        waiting = asyncio.ensure_future(self._batch.wait(self._accepted, self._seconds))
        left = asyncio.ensure_future(gone(http))
        stopped = asyncio.ensure_future(self._stopping.wait())
        tasks = (waiting, left, stopped)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            if left.done():
                raise ClientDisconnect
            raise Unavailable("server", "it is shutting down", retry_after=1)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def _giving_up(self) -> AsyncIterator[None]:
        """Whatever ends the waiting early ends the work, unless it is to be kept."""
        try:
            yield
        except BaseException:
            if not self._keep:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._batch.cancel, self._accepted)
            raise
