"""An event log, and a way to write to it as the queue does."""

from collections.abc import Callable, Iterator

import pytest

from service.domain.generations.events import Event
from service.events.bell import CHANNEL
from service.events.codec import encode
from service.events.connection import connect
from service.events.stream import RedisEventLog, events_key


@pytest.fixture
def log(redis_url: str) -> RedisEventLog:
    return RedisEventLog(redis_url)


@pytest.fixture
def tell(redis_url: str) -> Iterator[Callable[[str, Event], str]]:
    client = connect(redis_url)

    def write(generation_id: str, event: Event) -> str:
        identifier: str = client.xadd(events_key(generation_id), encode(event))
        client.publish(CHANNEL, generation_id)
        return identifier

    yield write
    client.close()
