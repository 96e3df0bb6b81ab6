"""Whether a client is still on the line."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request

_T = TypeVar("_T")


async def gone(http: Request) -> None:
    """Return once the client has closed the connection; its body must have been read before."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def while_present(
    http: Request, waiting: Coroutine[Any, Any, _T], give_up: Callable[[], object]
) -> _T:
    """What `waiting` returns, unless the client goes away before that.

    Args:
        http: the client's request.
        waiting: stopped when the client goes away.
        give_up: called then, on a thread.

    Raises:
        ClientDisconnect: the client went away.
    """
    result, leaving = asyncio.ensure_future(waiting), asyncio.ensure_future(gone(http))
    try:
        await asyncio.wait((result, leaving), return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        await anyio.to_thread.run_sync(give_up)
        raise ClientDisconnect
    finally:
        for task in (result, leaving):
            task.cancel()
        await asyncio.gather(result, leaving, return_exceptions=True)
