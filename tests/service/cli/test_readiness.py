"""What `hidiffusion generate` asks before it uses a service that runs already."""

from pathlib import Path

from service.application.ports import WorkerInfo
from service.records.attempts import Attempts
from service.settings import StoreSettings
from tests.servers import RedisServer
from tests.service.api.stack import running_stack


def test_the_service_is_not_ready_while_its_only_worker_still_loads(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    store = StoreSettings(url=(tmp_path / "store").as_uri())
    with running_stack(own_redis.url, store) as stack:
        loading = WorkerInfo("loading", "starting", ("emoji",), (), 0)
        Attempts(stack.records, max_losses=3).report(loading, ttl_seconds=60)
        response = stack.http.get("/readyz")
        assert response.status_code == 503
        assert "worker" in response.json()["detail"]
        stack.add_worker()
        assert stack.http.get("/readyz").status_code == 200
