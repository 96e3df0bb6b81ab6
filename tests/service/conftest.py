"""Records in a real Redis."""

from collections.abc import Iterator

import pytest

from service.events.connection import connect
from service.records.attempts import Attempts
from service.records.records import RedisRecords
from service.settings import RedisSettings


@pytest.fixture
def records(redis_url: str) -> Iterator[RedisRecords]:
    client = connect(redis_url)
    yield RedisRecords(client, RedisSettings(url=redis_url))
    client.close()


@pytest.fixture
def attempts(records: RedisRecords) -> Attempts:
    return Attempts(records, max_losses=3)
