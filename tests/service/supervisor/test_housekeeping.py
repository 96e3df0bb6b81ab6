"""One of many keeps house, and another takes over when it is gone."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from service.events.connection import connect
from service.supervisor.housekeeping import Housekeeping
from tests.service.supervisor.waiting import wait_until


@pytest.fixture
def keep(redis_url: str) -> Iterator[Callable[..., Housekeeping]]:
    keepers: list[Housekeeping] = []

    def start(name: str, *tasks: Callable[[], None]) -> Housekeeping:
        keepers.append(Housekeeping(connect(redis_url), name, 0.02, tasks))
        keepers[-1].start()
        return keepers[-1]

    yield start
    for keeper in keepers:
        keeper.stop()


def test_one_does_it_and_another_takes_over(keep):
    done: Counter[str] = Counter()
    keepers = {name: keep(name, lambda name=name: done.update([name])) for name in ("a", "b", "c")}
    wait_until(lambda: done.total() >= 5, "five rounds")
    (first,) = done
    keepers[first].stop()
    wait_until(lambda: len(done) == 2, "another to take over")


def test_a_task_that_fails_stops_neither_the_others_nor_the_next_round(keep):
    rounds = threading.Semaphore(0)

    def fail() -> None:
        raise KeyError("a record that nobody expected")

    keep("a", fail, rounds.release)
    assert all(rounds.acquire(timeout=30) for _ in range(3))
