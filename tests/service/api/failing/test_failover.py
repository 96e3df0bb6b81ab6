"""Redis fails over: another server is the primary, behind the same name, and nothing is lost."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from service.events import bell
from service.settings import RedisSettings, StoreSettings
from tests.servers import CuttingProxy, RedisServer, redis_server
from tests.service.api.stack import Stack, running_stack


@dataclass(frozen=True)
class _Pair:
    """A primary, its replica, and the name that leads to the primary."""

    primary: RedisServer
    replica: RedisServer
    name: CuttingProxy


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[_Pair]:
    """Two servers and a name; the second follows the first."""
    with redis_server(tmp_path) as primary, redis_server(tmp_path) as replica:
        replica.follow(primary)
        name = CuttingProxy(primary.port)
        yield _Pair(primary, replica, name)
        name.close()


@contextmanager
def _service(pair: _Pair, tmp_path: Path, replicas: int = 0) -> Iterator[Stack]:
    url = f"redis://127.0.0.1:{pair.name.port}/0"
    store = StoreSettings(url=(tmp_path / "store").as_uri())
    with running_stack(url, store, redis_settings=RedisSettings(replicas=replicas)) as stack:
        yield stack


class _Client:
    """Asks for one picture after the other, and again for each that it got no answer for."""

    def __init__(self, stack: Stack) -> None:
        self.accepted: list[str] = []
        self._http = stack.http
        self._over = threading.Event()
        self._one_more = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "_Client":
        self._thread.start()
        self.wait_for_one_more()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def wait_for_one_more(self) -> None:
        """Return once something was accepted that was asked for after this call, or during it."""
        for _ in range(2):
            self._one_more.clear()
            assert self._one_more.wait(20)

    def _ask(self) -> None:
        while not self._over.is_set():
            key = {"idempotency-key": f"picture-{len(self.accepted)}"}
            answer = self._http.post("/v1/generations", json={"prompt": "a fox"}, headers=key)
            if answer.status_code == 202:
                self.accepted.append(answer.json()["id"])
                self._one_more.set()
            else:
                assert answer.status_code == 503, answer.text
                assert "retry-after" in answer.headers


def _waiting(server: RedisServer) -> set[str]:
    with redis.Redis(port=server.port, decode_responses=True) as client:
        return set(client.zrange("hidiffusion:index:queued", 0, -1))


def _strangers(server: RedisServer) -> list[str]:
    """Clients of a server, but for its replicas and the one that asks."""
    with redis.Redis(port=server.port) as client:
        own = client.client_id()
        listed = [*client.client_list("normal"), *client.client_list("pubsub")]
        return [each["cmd"] for each in listed if int(each["id"]) != own]


def test_a_demoted_primary_is_left_and_nothing_accepted_is_lost(
    pair: _Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bell, "PRIMARY_SECONDS", 0.1)
    with _service(pair, tmp_path) as stack:
        watched = stack.submit()
        with ThreadPoolExecutor(8) as pool:  # so that there are connections in the pool
            list(pool.map(stack.http.get, [f"/v1/generations/{watched}"] * 40))
        with _Client(stack) as client:
            told: list[str] = []
            path = f"/v1/generations/{watched}/events"
            follower = threading.Thread(
                target=lambda: told.append(stack.http.get(path).text), daemon=True
            )
            follower.start()
            pair.primary.hand_over(pair.replica)
            refused = stack.http.post("/v1/generations", json={"prompt": "a bear"})
            pair.name.lead_to(pair.replica.port)
            client.wait_for_one_more()
            stack.worker.run(watched)
            follower.join(20)

        assert refused.status_code == 503
        assert "event: succeeded" in told[0]
        assert _waiting(pair.replica) == set(client.accepted)
        assert stack.count() == len(client.accepted) + 1
        deadline = time.monotonic() + 20
        while _strangers(pair.primary):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_what_replicas_were_waited_for_survives_the_crash_of_the_primary(
    pair: _Pair, tmp_path: Path
) -> None:
    with _service(pair, tmp_path, replicas=1) as stack:
        known = stack.submit()
        key = {"idempotency-key": "once"}
        pair.replica.pause()
        unsure = stack.http.post("/v1/generations", json={"prompt": "a fox"}, headers=key)
        pair.replica.resume()
        sure = stack.http.post("/v1/generations", json={"prompt": "a fox"}, headers=key)
        pair.primary.stop(signal.SIGKILL)
        with redis.Redis(port=pair.replica.port) as promoted:
            promoted.replicaof("NO", "ONE")
        pair.name.lead_to(pair.replica.port)

        assert (unsure.status_code, unsure.headers["retry-after"]) == (503, "5")
        assert sure.status_code == 202
        assert {known, sure.json()["id"]} == _waiting(pair.replica)
        assert stack.count() == 2
