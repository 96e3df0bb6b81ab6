"""End long streams when the server stops, so that clients can resume elsewhere at once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar, cast

import anyio

from service.domain.errors import Unavailable

_T = TypeVar("_T")
_END = object()


async def until(stopping: asyncio.Event, source: AsyncIterator[_T]) -> AsyncGenerator[_T]:
    """The items of `source` until it ends or `stopping` is set; `source` is closed in any case.

    Raises:
        Unavailable: `stopping` was set before the source ended; resume with another server.
    """
    stopped = asyncio.ensure_future(stopping.wait())
    following: asyncio.Future[_T | object] | None = None
    try:
        while not stopping.is_set():
            following = asyncio.ensure_future(anext(source, _END))
            await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                break
            if following.result() is _END:
                return
            yield cast("_T", following.result())
        raise Unavailable("server", "it is shutting down", retry_after=1)
    finally:
        stopped.cancel()
        with anyio.CancelScope(shield=True):
            if following is not None and not following.done():
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            if isinstance(source, AsyncGenerator):
                await source.aclose()
