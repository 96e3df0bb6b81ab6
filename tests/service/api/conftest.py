"""A running service for the tests of its front ends."""

from collections.abc import Iterator

import pytest
import redis

from service.settings import StoreSettings
from tests.servers import RedisServer
from tests.service.api.stack import Stack, running_stack


@pytest.fixture(scope="session")
def shared_stack(
    shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """One service for all these tests; take `stack`."""
    store = StoreSettings(url=tmp_path_factory.mktemp("store").as_uri())
    with running_stack(shared_redis.url, store) as running:
        yield running


@pytest.fixture
def stack(shared_stack: Stack, shared_redis: RedisServer) -> Stack:
    """A running service that knows no generation."""
    with redis.Redis.from_url(shared_redis.url) as client:
        client.flushall()
    return shared_stack
