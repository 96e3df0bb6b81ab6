"""Wake whoever waits for a generation's next event, over one connection per event loop.

Every write to a stream also publishes the generation's id on one channel. A ring says only "look
again": nothing is lost when one is missed, because waiters read the stream before they wait and
look again when they have waited long enough.

What one waiter reads between two rings serves all who have come as far, so that a generation with
a thousand watchers is read once for an event, and not a thousand times.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import redis.asyncio

from service.events.connection import connect_async
from service.events.reading import Reading, read_after

CHANNEL = "hidiffusion:bell"

#: Seconds between attempts to hear again after the connection was lost.
RECONNECT_SECONDS = 0.5

#: Seconds between attempts to write, of one who only reads: what cannot be written to leads nobody.
PRIMARY_SECONDS = 10.0

#: A key that is never there, so that deleting it changes nothing.
_NOTHING = "hidiffusion:nothing"


@dataclass(frozen=True)
class _Look:
    """A reading that is done or under way, and when it began, in seconds of the event loop."""

    task: asyncio.Task[Reading]
    began: float

    @property
    def failed(self) -> bool:
        """Whether it is done, and there is nothing to be had of it."""
        return self.task.done() and self.task.exception() is not None


class Bell:
    """Rings when something happens to one generation; shared by all who wait for that.

    Args:
        read: reads the stream from a position on.
    """

    def __init__(self, read: Callable[[str], Coroutine[Any, Any, Reading]]) -> None:
        self.waiting = 0
        self._read = read
        self._looks: dict[str, _Look] = {}
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait, and let nobody have what was read before."""
        self._looks = {}
        self._rung.set()
        self._rung = asyncio.Event()

    async def look(self, position: str, max_age: float) -> tuple[Reading, asyncio.Event]:
        """What comes after `position`, and what is set by the first ring since that was read.

        Args:
            position: id of a stream entry.
            max_age: seconds after which a reading is too old though nothing has rung.
        """
        rung, now = self._rung, asyncio.get_running_loop().time()
        look = self._looks.get(position)
        if look is None or look.failed or now - look.began >= max_age:
            look = self._looks[position] = _Look(asyncio.create_task(self._read(position)), now)
        # One who leaves does not end what the others wait for.
        return await asyncio.shield(look.task), rung


class Tower:
    """The bells of one event loop. It listens while anybody waits, and not a moment longer."""

    def __init__(self, url: str) -> None:
        self._client: redis.asyncio.Redis = connect_async(url)
        self._bells: dict[str, Bell] = {}
        self._reading: set[asyncio.Task[Any]] = set()
        self._listener = asyncio.create_task(self._listen())

    @property
    def deserted(self) -> bool:
        """Whether nobody waits any more."""
        return not self._bells

    def enter(self, generation_id: str, key: str) -> Bell:
        """The bell of a generation, whose stream is `key`, for one more to wait for."""
        bell = self._bells.get(generation_id)
        if bell is None:
            bell = self._bells[generation_id] = Bell(partial(self._read, key))
        bell.waiting += 1
        return bell

    def leave(self, generation_id: str) -> None:
        """Undo `enter`."""
        bell = self._bells[generation_id]
        bell.waiting -= 1
        if not bell.waiting:
            del self._bells[generation_id]

    async def close(self) -> None:
        """Stop listening and reading, and drop every connection."""
        tasks = {self._listener, *self._reading}
        while tasks:
            # One cancellation may be lost: while a connection is being made, it can meet the
            # connection's own timeout and be taken for that.
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=0.1)
        await self._client.aclose(close_connection_pool=True)

    async def _read(self, key: str, position: str) -> Reading:
        task = asyncio.current_task()
        assert task is not None
        self._reading.add(task)
        try:
            return await read_after(self._client, key, position)
        finally:
            self._reading.discard(task)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(redis.RedisError):
                async with self._client.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    await self._relay(channel)
            self._ring_all()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _relay(self, channel: redis.asyncio.client.PubSub) -> None:
        loop = asyncio.get_running_loop()
        checked = loop.time()
        while True:
            message = await channel.get_message(timeout=PRIMARY_SECONDS)
            if loop.time() - checked >= PRIMARY_SECONDS:
                await self._client.delete(_NOTHING)
                checked = loop.time()
            if message is None:
                continue
            if message["type"] == "subscribe":
                self._ring_all()  # whatever was published before now went unheard
            elif bell := self._bells.get(message["data"]):
                bell.ring()

    def _ring_all(self) -> None:
        for bell in self._bells.values():
            bell.ring()


class Towers:
    """One `Tower` per event loop, built for the first who waits and torn down after the last."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._towers: WeakKeyDictionary[asyncio.AbstractEventLoop, Tower] = WeakKeyDictionary()

    @contextlib.asynccontextmanager
    async def bell(self, generation_id: str, key: str) -> AsyncIterator[Bell]:
        """The bell of one generation, whose stream is `key`, for the length of the block."""
        loop = asyncio.get_running_loop()
        tower = self._towers.get(loop)
        if tower is None:
            tower = self._towers[loop] = Tower(self._url)
        bell = tower.enter(generation_id, key)
        try:
            yield bell
        finally:
            tower.leave(generation_id)
            if tower.deserted:
                del self._towers[loop]
                await asyncio.shield(asyncio.create_task(tower.close()))
