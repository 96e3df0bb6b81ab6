"""How the service connects to Redis, and what a client is told when Redis does not answer."""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeAlias

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from service.domain.errors import Unavailable
from service.events.primary import AsyncPrimaryPool, PrimaryPool

#: redis-py's annotations cannot tell a client that answers in text from one that answers in bytes,
#: and so offer `bytes | str` everywhere; for us they are worse than none.
TextClient: TypeAlias = Any

#: Seconds to wait for a connection, and for the answer to one command.
CONNECT_TIMEOUT = 2.0
COMMAND_TIMEOUT = 5.0

#: A lost connection gets two more tries at once; a server that does not answer in time gets none,
#: because the caller has waited long enough.
RETRIES = 2
BACKOFF = ExponentialBackoff(cap=0.2, base=0.02)
RETRIED = (redis.ConnectionError,)

#: Connections one event loop reads with, however many clients it serves.
ASYNC_CONNECTIONS = 16


def connect(url: str, *, decode: bool = True) -> TextClient:
    """A thread-safe `redis.Redis`; it connects at the first command.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        decode: answer in text; RQ's own connection needs bytes.
    """
    pool = PrimaryPool.of(
        url,
        decode_responses=decode,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=COMMAND_TIMEOUT,
        health_check_interval=15,
        retry=Retry(BACKOFF, RETRIES, RETRIED),
    )
    return redis.Redis.from_pool(pool)


def connect_async(url: str) -> redis.asyncio.Redis:
    """A client for the running event loop; callers queue for its connections."""
    pool = AsyncPrimaryPool.of(
        url,
        decode_responses=True,
        max_connections=ASYNC_CONNECTIONS,
        timeout=COMMAND_TIMEOUT,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=COMMAND_TIMEOUT,
        health_check_interval=15,
        retry=AsyncRetry(BACKOFF, RETRIES, RETRIED),
    )
    return redis.asyncio.Redis.from_pool(pool)


#: A server refuses to write for now: its memory or disk is full, it is a replica or lacks some.
#: redis-py has classes for some refusals, and only when no script is between.
_REFUSALS = (redis.OutOfMemoryError, redis.ReadOnlyError, redis.exceptions.MasterDownError)
_REFUSAL_CODES = ("OOM ", "READONLY ", "MASTERDOWN ", "MISCONF ", "NOREPLICAS ")


@contextlib.contextmanager
def unavailable_when_down() -> Iterator[None]:
    """Turn a lost connection, a timeout or a server that takes no writes into `Unavailable`."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise Unavailable("redis", str(error) or type(error).__name__) from error
    except redis.ResponseError as error:
        if _refuses(error):
            raise Unavailable("redis", str(error)) from error
        raise


def _refuses(error: redis.ResponseError) -> bool:
    return isinstance(error, _REFUSALS) or any(code in str(error) for code in _REFUSAL_CODES)
