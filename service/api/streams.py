"""End long streams when the server stops, so that clients can resume elsewhere at once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar, cast

import anyio

from service.domain.errors import Unavailable

_T = TypeVar("_T")
_END = object()


async def until(stopping: asyncio.Event, source: AsyncIterator[_T]) -> AsyncGenerator[_T]:
    """The items of `source` until it ends or `stopping` is set; `source` is closed in any case.

    Raises:
        Unavailable: `stopping` was set before the source ended; resume with another server.
    """
    door: asyncio.Timeout | None = None

    def shut(_: object) -> None:
        if door is not None:
            door.reschedule(asyncio.get_running_loop().time())

    stopped = asyncio.ensure_future(stopping.wait())
    stopped.add_done_callback(shut)
    try:
        while not stopping.is_set():
            # A deadline that is set when the server stops: much cheaper than a task for each item.
            async with asyncio.timeout(None) as door:
                item = await anext(source, _END)
            door = None
            if item is _END:
                return
            yield cast("_T", item)
    except TimeoutError:
        if not stopping.is_set():
            raise
    finally:
        door = None
        stopped.cancel()
        with anyio.CancelScope(shield=True):
            if isinstance(source, AsyncGenerator):
                await source.aclose()
    raise Unavailable("server", "it is shutting down", retry_after=1)


async def unless_stopping(
    stopping: asyncio.Event, waiting: Coroutine[Any, Any, _T], otherwise: _T
) -> _T:
    """What `waiting` returns, or `otherwise` when `stopping` is set before that."""
    result = asyncio.ensure_future(waiting)
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((result, stopped), return_when=asyncio.FIRST_COMPLETED)
        return result.result() if result.done() else otherwise
    finally:
        for task in (result, stopped):
            task.cancel()
        await asyncio.gather(result, stopped, return_exceptions=True)
