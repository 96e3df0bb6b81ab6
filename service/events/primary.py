"""Connections that leave a server which is the primary no longer: after a failover the same name
leads to another one.

A demoted server keeps its connections, refuses writes, and answers reads with what may be old. So
the first refusal ends every connection of the pool, and the command goes to the new primary.
"""

from typing import TYPE_CHECKING, Any, NoReturn

import redis
import redis.asyncio
import redis.asyncio.connection

#: What a server says once it is a replica; scripts of Redis 6 say so in the middle of a sentence.
#: The second ends commands that were waiting when it became one.
_DEMOTED = ("READONLY ", "UNBLOCKED ")

_MESSAGE = "the server is a replica now; the primary is elsewhere"


def _demoted(error: redis.ResponseError) -> bool:
    return isinstance(error, redis.ReadOnlyError) or any(code in str(error) for code in _DEMOTED)


def _leave(connection: Any, error: redis.ResponseError) -> NoReturn:
    connection.demoted = True
    raise redis.ConnectionError(_MESSAGE) from error


if TYPE_CHECKING:
    _Any = redis.Connection
    _AnyAsync = redis.asyncio.Connection
else:
    _Any = _AnyAsync = object


class _Leaving(_Any):
    """Takes a refusal to write for a lost connection, which redis-py tries again elsewhere."""

    demoted = False

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        except redis.ResponseError as error:
            if _demoted(error):
                self.disconnect()  # type: ignore[no-untyped-call]
                _leave(self, error)
            raise


class _AsyncLeaving(_AnyAsync):
    """The same for an event loop."""

    demoted = False

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except redis.ResponseError as error:
            if _demoted(error):
                await self.disconnect(nowait=True)
                _leave(self, error)
            raise


class _Tcp(_Leaving, redis.Connection):
    pass


class _Tls(_Leaving, redis.SSLConnection):
    pass


class _Unix(_Leaving, redis.UnixDomainSocketConnection):
    pass


class _AsyncTcp(_AsyncLeaving, redis.asyncio.Connection):
    pass


class _AsyncTls(_AsyncLeaving, redis.asyncio.SSLConnection):
    pass


class _AsyncUnix(_AsyncLeaving, redis.asyncio.UnixDomainSocketConnection):
    pass


class PrimaryPool(redis.ConnectionPool):
    """Connections to whatever is the primary; make one by `of`."""

    @classmethod
    def of(cls, url: str, **options: Any) -> "PrimaryPool":
        """A pool for a `redis://`, `rediss://` or `unix://` URL, with redis-py's options."""
        kind = {"rediss": _Tls, "unix": _Unix}.get(url.partition(":")[0], _Tcp)
        pool = cls.from_url(url, **options)
        pool.connection_class = kind  # of what is connected from now on
        return pool

    def release(self, connection: Any) -> None:
        """Take a connection back; one that met a replica takes all others with it."""
        super().release(connection)
        if connection.demoted:
            connection.demoted = False
            self.disconnect(inuse_connections=False)
            for each in tuple(self._in_use_connections):
                each.mark_for_reconnect()


class AsyncPrimaryPool(redis.asyncio.BlockingConnectionPool):
    """The same for an event loop; make one by `of`."""

    @classmethod
    def of(cls, url: str, **options: Any) -> "AsyncPrimaryPool":
        """A pool for a `redis://`, `rediss://` or `unix://` URL, with redis-py's options."""
        kind = {"rediss": _AsyncTls, "unix": _AsyncUnix}.get(url.partition(":")[0], _AsyncTcp)
        pool = cls.from_url(url, **options)
        pool.connection_class = kind  # `from_url` has its own for every scheme but redis://
        return pool

    async def release(self, connection: Any) -> None:
        """Take a connection back; one that met a replica takes all others with it."""
        await super().release(connection)
        if connection.demoted:
            connection.demoted = False
            await self.disconnect(inuse_connections=False)
            for each in tuple(self._in_use_connections):
                each.mark_for_reconnect()  # type: ignore[no-untyped-call]
