"""Work on pictures in the front ends: bounded, in threads of its own, its results kept for a while.

Decoding and encoding take seconds and gigabytes, and anybody may ask for them. What waits here
waits as a coroutine, so it keeps no thread from anybody else; and what there is no room for is
told so at once.
"""

import asyncio
import contextvars
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import anyio
import anyio.to_thread

from service.application.generations.query import Query
from service.application.ports import ObjectInfo
from service.application.requests.inputs import holds_pictures, names_urls
from service.domain.errors import Unavailable
from service.domain.requests.request import GenerationRequest

_T = TypeVar("_T")

#: Pictures worked on at a time; each may take several times its pixels in memory.
THREADS = 2

#: Most that wait or are worked on, of everybody and of one tenant.
PLACES = 32
PLACES_OF_ONE = 16

#: Pictures fetched at a time, and most that wait or are fetched, of everybody and of one tenant:
#: whoever is asked for them may be slow, and that must keep nobody from decoding.
FETCHERS = 4
FETCHES = 16
FETCHES_OF_ONE = 8

#: Bytes of results that are kept, the last used ones.
KEPT_BYTES = 64 * 1024 * 1024

#: Pieces of stored pictures that are read at a time.
READERS = 20

_RETRY_SECONDS = 5


class PictureWork:
    """Runs work on pictures for one event loop; one instance serves both front ends.

    Args:
        threads: how many pictures are worked on at a time.
        places: most that wait or are worked on.
        places_of_one: most of one tenant.
        kept_bytes: bytes of results that are kept.
    """

    def __init__(
        self,
        threads: int = THREADS,
        places: int = PLACES,
        places_of_one: int = PLACES_OF_ONE,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._work = _Desk("pictures", threads, places, places_of_one)
        self._fetches = _Desk("fetches", FETCHERS, FETCHES, FETCHES_OF_ONE)
        self._readers = anyio.CapacityLimiter(READERS)
        self._kept_bytes = kept_bytes
        self._under_way: dict[Hashable, asyncio.Task[bytes]] = {}
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()

    async def run(self, tenant: str, work: Callable[[], _T]) -> _T:
        """What `work` returns or raises, once it is its turn.

        Raises:
            Unavailable: too much waits already, of everybody or of this tenant.
        """
        return await self._work.run(tenant, work)

    async def made(self, tenant: str, name: Hashable, work: Callable[[], bytes]) -> bytes:
        """What `work` makes, or made before under this name; who asks meanwhile shares it.

        Raises:
            Unavailable: too much waits already, of everybody or of this tenant.
        """
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.create_task(self._make(tenant, name, work))
            self._under_way[name] = task
            task.add_done_callback(lambda _: self._under_way.pop(name, None))
        # One who leaves does not end what the others wait for.
        return await asyncio.shield(task)

    async def submitted(
        self, tenant: str, request: GenerationRequest, work: Callable[[], _T]
    ) -> _T:
        """What `work`, which accepts a request, returns; it waits here if it needs pictures.

        Raises:
            Unavailable: it does, and too much waits already.
        """
        if names_urls(request):
            return await self._fetches.run(tenant, work)
        if holds_pictures(request):
            return await self.run(tenant, work)
        return await anyio.to_thread.run_sync(work)

    async def read(self, query: Query, info: ObjectInfo, start: int, end: int) -> bytes:
        """A piece of a stored picture; a store that is slow holds up no more than downloads."""
        return await anyio.to_thread.run_sync(query.read, info, start, end, limiter=self._readers)

    def close(self) -> None:
        """Begin nothing more."""
        self._work.close()
        self._fetches.close()

    async def _make(self, tenant: str, name: Hashable, work: Callable[[], bytes]) -> bytes:
        made = await self.run(tenant, work)
        self._kept[name] = made
        kept = sum(map(len, self._kept.values()))
        while kept > self._kept_bytes:
            kept -= len(self._kept.popitem(last=False)[1])
        return made


class _Desk:
    """Threads, and a queue in front of them with places for everybody and for one tenant."""

    def __init__(self, name: str, threads: int, places: int, places_of_one: int) -> None:
        self._pool = ThreadPoolExecutor(threads, name)
        self._places = places
        self._places_of_one = places_of_one
        self._taken: Counter[str] = Counter()

    async def run(self, tenant: str, work: Callable[[], _T]) -> _T:
        """What `work` returns or raises, once it is its turn; raises `Unavailable` when full."""
        with self._place(tenant):
            context = contextvars.copy_context()
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, lambda: context.run(work))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _place(self, tenant: str) -> Iterator[None]:
        if self._taken.total() >= self._places or self._taken[tenant] >= self._places_of_one:
            waiting = f"{self._taken.total()} pictures wait to be read or written"
            raise Unavailable("picture work", waiting, _RETRY_SECONDS)
        self._taken[tenant] += 1
        try:
            yield
        finally:
            self._taken[tenant] -= 1
            if not self._taken[tenant]:
                del self._taken[tenant]
