"""How long a pipeline process may be silent, on a clock that the tests play."""

import pytest

from service.channel import Alive, Happened
from service.domain.generations.events import Event, Started, Succeeded, WaitingForStore
from service.settings import WorkerSettings
from service.supervisor.jobs import watchdog
from service.supervisor.jobs.watchdog import Silences, Watchdog
from tests.generations import make_generation, make_manifest, now, step

SETTINGS = WorkerSettings(stall_seconds=60, warm_up_seconds=900)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watchdog, "time", clock)
    return clock


class Scene:
    def __init__(self, clock: Clock, silences: Silences) -> None:
        self.clock = clock
        self.generation = make_generation()
        self.dog = Watchdog([self.generation], silences, SETTINGS)

    def tell(self, event: Event, after: float) -> None:
        self.live(after)
        self.dog.hear(Happened(generation_id=self.generation.id, event=event))

    def live(self, seconds: float) -> str:
        """Signs of life and nothing else; the first verdict against the process."""
        verdict = ""
        for _ in range(int(seconds)):
            self.clock.now += 1
            self.dog.hear(Alive())
            verdict = verdict or self.dog.verdict()
        return verdict

    def succeed(self, after: float) -> None:
        manifest = make_manifest(self.generation, 1)
        self.tell(Succeeded(attempt=1, at=now(), manifest=manifest), after)


def test_without_signs_of_life_it_is_over_at_once(clock):
    scene = Scene(clock, Silences(60, 900))
    scene.tell(step(1), after=10)
    clock.now += 61
    assert "no sign of life for 60 s" in scene.dog.verdict()


def test_until_one_has_succeeded_silence_may_last_as_a_cold_start_may(clock):
    scene = Scene(clock, Silences(60, 900))
    assert scene.live(800) == ""
    scene.tell(step(1), after=1)
    assert scene.live(899) == ""
    assert "no progress for 900 s" in scene.live(5)


@pytest.mark.parametrize(("longest", "allowed"), [(2, 60), (20, 200)])
def test_then_it_is_measured_and_has_a_floor(clock, longest, allowed):
    silences = Silences(60, 900)
    first = Scene(clock, silences)
    first.tell(Started(attempt=1, at=now(), worker="w"), after=500)  # loading is not counted
    first.tell(step(1), after=longest)
    first.succeed(after=1)
    second = Scene(clock, silences)
    second.tell(step(1), after=500)
    assert second.live(allowed - 1) == ""
    assert f"no progress for {allowed} s" in second.live(5)


def test_waiting_for_the_store_is_no_fault_of_its(clock):
    scene = Scene(clock, Silences(60, 900))
    scene.tell(WaitingForStore(attempt=1, at=now(), reason="STORE_UNAVAILABLE"), after=1)
    assert scene.live(5000) == ""
    scene.tell(step(1), after=1)
    assert scene.live(905) != ""


def test_what_it_does_for_another_is_a_sign_of_life_and_no_beginning(clock):
    silences = Silences(60, 900)
    first = Scene(clock, silences)
    first.tell(step(1), after=2)
    first.succeed(after=1)
    scene, other = Scene(clock, silences), make_generation()
    for _ in range(3):
        assert scene.live(800) == ""  # may still be loading
        scene.dog.hear(Happened(generation_id=other.id, event=step(1)))
    scene.tell(step(1), after=1)
    assert scene.live(59) == ""
    scene.dog.hear(Happened(generation_id=other.id, event=step(2)))
    assert scene.live(59) == ""
    assert "no progress for 60 s" in scene.live(5)
