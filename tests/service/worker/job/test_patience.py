"""Waiting for a store that fails or refuses: a real S3-compatible server behind a faulty proxy."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr

from service.application.ports import ObjectStore
from service.domain.errors import NotFound, StoreError, Unavailable
from service.domain.generations.events import Event, WaitingForStore
from service.domain.generations.generation import Generation
from service.settings import StoreSettings
from service.storage.store import open_store
from service.worker.job.attempt import Attempt
from service.worker.job.patience import PatientStore
from tests.faulty_s3 import Fault, FaultyS3
from tests.s3_server import ACCESS_KEY_ID, SECRET_ACCESS_KEY, s3_server
from tests.service.worker.process.test_main import NewGeneration

KEY = "generations/g/1/tile.png"


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyS3]:
    with s3_server() as server:
        server.create_bucket("pictures")
        with FaultyS3(server.endpoint).running() as proxy:
            yield proxy


@pytest.fixture
def store(proxy: FaultyS3) -> Iterator[ObjectStore]:
    yield open_store(
        StoreSettings(
            url="s3://pictures",
            endpoint=proxy.endpoint,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SecretStr(SECRET_ACCESS_KEY),
        )
    )
    proxy.fault = "none"


class Told:
    """An attempt that remembers what it tells and can be called off."""

    def __init__(self, generation: Generation) -> None:
        self.events: list[Event] = []
        self.cancelled = threading.Event()
        self.attempt = Attempt(generation, self.events.append, self.cancelled.is_set)


@pytest.fixture
def told(new_generation: NewGeneration) -> Told:
    return Told(new_generation())


def _in_background(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("fault", "reason"), [("denied", "STORE_ERROR"), ("full", "STORE_UNAVAILABLE")]
)
def test_it_tells_once_and_hands_in_when_the_store_is_back(
    proxy: FaultyS3, store: ObjectStore, told: Told, fault: Fault, reason: str
) -> None:
    patient = PatientStore(store, told.attempt, 60)
    proxy.fault = fault
    threads = [
        _in_background(lambda n=n: patient.put(f"{KEY[:-4]}{n}.png", b"tile", "image/png"))
        for n in range(3)
    ]
    _until(lambda: len(told.events) > 0)
    proxy.fault = "none"
    for thread in threads:
        thread.join(30)
    assert [store.get(f"{KEY[:-4]}{n}.png") for n in range(3)] == [b"tile"] * 3
    (event,) = told.events
    assert isinstance(event, WaitingForStore)
    assert event.reason == reason


def test_it_gives_up_at_the_limit(proxy: FaultyS3, store: ObjectStore, told: Told) -> None:
    proxy.fault = "denied"
    with pytest.raises(StoreError, match="refused"):
        PatientStore(store, told.attempt, 1).put(KEY, b"tile", "image/png")


def test_without_a_limit_nothing_is_told(proxy: FaultyS3, store: ObjectStore, told: Told) -> None:
    proxy.fault = "denied"
    with pytest.raises(StoreError):
        PatientStore(store, told.attempt, 0).put(KEY, b"tile", "image/png")
    assert told.events == []


def test_cancelling_ends_the_wait(proxy: FaultyS3, store: ObjectStore, told: Told) -> None:
    proxy.fault = "denied"
    errors = []

    def put() -> None:
        try:
            PatientStore(store, told.attempt, 600).put(KEY, b"tile", "image/png")
        except (StoreError, Unavailable) as error:
            errors.append(error)

    thread = _in_background(put)
    _until(lambda: len(told.events) > 0)
    told.cancelled.set()
    thread.join(10)
    assert len(errors) == 1


def test_that_there_is_nothing_is_an_answer(store: ObjectStore, told: Told) -> None:
    with pytest.raises(NotFound):
        PatientStore(store, told.attempt, 600).get("generations/none")
    assert told.events == []
