"""Fixtures every test may use: real servers, cheap to ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.servers import RedisServer, redis_server


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis server for the whole run; take `redis_url` unless you must stop it."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(shared_redis: RedisServer) -> str:
    """URL of an empty Redis database."""
    with redis.Redis.from_url(shared_redis.url) as client:
        client.flushall()
    return shared_redis.url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server of the test's own, to stop, kill and start; it keeps an append-only file."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_server(folder, append_only=True) as server:
        yield server
