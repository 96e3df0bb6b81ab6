"""End long streams when the server stops, so that clients can resume elsewhere at once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar, cast

from service.domain.errors import Unavailable

_T = TypeVar("_T")
_END = object()

#: Streams that are being closed; an event loop alone would forget them.
_CLOSING: set[asyncio.Future[None]] = set()


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
        if isinstance(source, AsyncGenerator):
            await _closed(source)
    raise Unavailable("server", "it is shutting down", retry_after=1)


async def _closed(source: AsyncGenerator[Any]) -> None:
    """Close `source`, and wait for that as long as the caller may wait.

    It goes on without a caller that is cancelled once more, or whose event loop ends meanwhile: a
    cancel scope could not be left without a loop.
    """
    closing = asyncio.ensure_future(source.aclose())
    _CLOSING.add(closing)
    closing.add_done_callback(_CLOSING.discard)
    await asyncio.shield(closing)


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
