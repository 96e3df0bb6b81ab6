"""Wake whoever waits for a generation's next event, over one connection per event loop.

Every write to a stream also publishes the generation's id on one channel. A ring says only "look
again": nothing is lost when one is missed, because waiters read the stream before they wait and
look again when they have waited long enough.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from weakref import WeakKeyDictionary

import redis.asyncio

from service.events.connection import connect_async

CHANNEL = "hidiffusion:bell"

#: Seconds between attempts to hear again after the connection was lost.
RECONNECT_SECONDS = 0.5


class Tower:
    """The bells of one event loop. It listens while anybody waits, and not a moment longer."""

    def __init__(self, url: str) -> None:
        self.client: redis.asyncio.Redis = connect_async(url)
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._listener = asyncio.create_task(self._listen())

    @property
    def deserted(self) -> bool:
        """Whether nobody waits any more."""
        return not self._waiting

    def hang(self, generation_id: str) -> asyncio.Event:
        """A bell that rings when something happens to the generation."""
        bell = asyncio.Event()
        self._waiting[generation_id].add(bell)
        return bell

    def take_down(self, generation_id: str, bell: asyncio.Event) -> None:
        """Undo `hang`."""
        self._waiting[generation_id].discard(bell)
        if not self._waiting[generation_id]:
            del self._waiting[generation_id]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        while not self._listener.done():
            # One cancellation may be lost: while a connection is being made, it can meet the
            # connection's own timeout and be taken for that.
            self._listener.cancel()
            await asyncio.wait([self._listener], timeout=0.1)
        await self.client.aclose(close_connection_pool=True)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(redis.RedisError):
                async with self.client.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    await self._relay(channel)
            self._ring_all()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _relay(self, channel: redis.asyncio.client.PubSub) -> None:
        while True:
            message = await channel.get_message(timeout=10.0)
            if message is None:
                continue
            if message["type"] == "subscribe":
                self._ring_all()  # whatever was published before now went unheard
            else:
                self._ring(message["data"])

    def _ring(self, generation_id: str) -> None:
        for bell in self._waiting.get(generation_id, ()):
            bell.set()

    def _ring_all(self) -> None:
        for generation_id in self._waiting:
            self._ring(generation_id)


class Towers:
    """One `Tower` per event loop, built for the first who waits and torn down after the last."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._towers: WeakKeyDictionary[asyncio.AbstractEventLoop, Tower] = WeakKeyDictionary()

    @contextlib.asynccontextmanager
    async def bell(self, generation_id: str) -> AsyncIterator[tuple[Tower, asyncio.Event]]:
        """A bell for one generation, and the tower it hangs in."""
        loop = asyncio.get_running_loop()
        tower = self._towers.get(loop)
        if tower is None:
            tower = self._towers[loop] = Tower(self._url)
        bell = tower.hang(generation_id)
        try:
            yield tower, bell
        finally:
            tower.take_down(generation_id, bell)
            if tower.deserted:
                del self._towers[loop]
                await asyncio.shield(asyncio.create_task(tower.close()))
