"""What both kinds of RQ workers do when Redis is away."""

from pathlib import Path

import pytest
import redis

from service.records.queue.rq_worker import ReturningWorker
from tests.servers import redis_server


@pytest.mark.timeout(60)
def test_an_answer_that_does_not_come_is_given_up_in_the_connections_own_time(
    tmp_path: Path,
) -> None:
    with (
        redis_server(tmp_path) as server,
        redis.Redis.from_url(server.url, socket_timeout=0.3) as client,
    ):
        worker = ReturningWorker(["any"], connection=client)
        worker.heartbeat()
        server.pause()
        try:
            with pytest.raises(redis.TimeoutError):
                worker.heartbeat()
        finally:
            server.resume()
