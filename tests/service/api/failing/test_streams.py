"""Streams end when they should, and are always closed."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.api.streams import until
from service.domain.errors import Unavailable


class _Source:
    """Numbers, then silence; remembers that it was closed."""

    def __init__(self, count: int, *, silent: bool) -> None:
        self.closed = False
        self._count = count
        self._silent = silent

    async def items(self) -> AsyncIterator[int]:
        try:
            for number in range(self._count):
                yield number
            if self._silent:
                await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # cleaning up takes a turn of the loop, as Redis does
            self.closed = True


async def test_everything_passes_until_the_source_ends() -> None:
    source = _Source(3, silent=False)

    assert [item async for item in until(asyncio.Event(), source.items())] == [0, 1, 2]
    assert source.closed


async def test_stopping_ends_the_wait_for_the_next_item() -> None:
    source, stopping = _Source(2, silent=True), asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, stopping.set)
    stream = until(stopping, source.items())

    assert [await anext(stream), await anext(stream)] == [0, 1]
    with pytest.raises(Unavailable, match="shutting down"):
        await anext(stream)
    assert source.closed


async def test_consumer_that_leaves_closes_the_source() -> None:
    source = _Source(2, silent=True)
    stream = until(asyncio.Event(), source.items())
    assert await anext(stream) == 0

    await stream.aclose()

    assert source.closed


async def test_cancelled_consumer_closes_the_source() -> None:
    source = _Source(0, silent=True)

    async def consume() -> None:
        async for _ in until(asyncio.Event(), source.items()):
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert source.closed


async def test_error_of_the_source_reaches_the_consumer() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 0
        raise Unavailable("redis", "gone")

    stream = until(asyncio.Event(), failing())

    assert await anext(stream) == 0
    with pytest.raises(Unavailable, match="redis"):
        await anext(stream)
