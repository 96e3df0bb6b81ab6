"""Attempts that go on where an earlier one was killed or suspended: real processes, tiny models."""

from collections.abc import Callable

import pytest

from service.channel import Cancel, Run
from service.domain.artifacts import ArtifactKeys
from service.domain.generations.events import Cancelled, Event, Stepped, Succeeded
from service.domain.generations.generation import Generation
from service.settings import StoreSettings
from tests.service.worker.conftest import Child

NewGeneration = Callable[..., Generation]
STEPS = 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StoreSettings:
    return StoreSettings(url=tmp_path_factory.mktemp("shared").as_uri())


@pytest.fixture(scope="module")
def child(start_child: Callable[..., Child], store: StoreSettings) -> Child:
    child = start_child(store, checkpoint_every_steps=2, checkpoint_every_seconds=0)
    child.hear()
    return child


@pytest.fixture(scope="module")
def whole(child: Child, new_generation: NewGeneration) -> str:
    """Digest of the picture of an attempt that nothing befell."""
    return _digest(child.run(new_generation(num_inference_steps=STEPS)))


def _digest(events: list[Event]) -> str:
    assert isinstance(events[-1], Succeeded), events[-1]
    return events[-1].manifest.image.sha256


def _steps(events: list[Event]) -> list[int]:
    return [event.step for event in events if isinstance(event, Stepped)]


def _again(generation: Generation, attempt: int) -> Generation:
    return generation.model_copy(update={"attempt": attempt})


def test_after_kill_9_the_next_goes_on_wherever_the_keys_are_and_makes_the_same_picture(
    start_child: Callable[..., Child],
    store: StoreSettings,
    child: Child,
    new_generation: NewGeneration,
    whole: str,
) -> None:
    generation = new_generation(num_inference_steps=STEPS)
    spread = store.model_copy(update={"spread_keys": True})
    victim = start_child(spread, checkpoint_every_steps=2, checkpoint_every_seconds=0)
    victim.hear()
    victim.process.send(Run(generation=generation))
    for event in victim.events():
        if isinstance(event, Stepped) and event.step == STEPS - 4:
            break
    victim.process.kill()
    assert child.store.keys(ArtifactKeys(generation.id, 1, spread=True).prefix)

    events = child.run(_again(generation, 2))
    steps = _steps(events)
    assert steps == [*range(steps[0], STEPS + 1)]
    assert steps[0] >= 2
    assert _digest(events) == whole


def test_a_method_of_two_passes_goes_on_in_the_second(
    start_child: Callable[..., Child],
    store: StoreSettings,
    child: Child,
    new_generation: NewGeneration,
) -> None:
    guided = {"num_inference_steps": STEPS, "method": "hidiffusion-guided"}
    unharmed = _digest(child.run(new_generation(**guided)))
    generation = new_generation(**guided)
    victim = start_child(store, checkpoint_every_steps=2, checkpoint_every_seconds=0)
    victim.hear()
    victim.process.send(Run(generation=generation))
    for event in victim.events():
        if isinstance(event, Stepped) and event.step == 2 * STEPS - 2:
            break
    victim.process.kill()

    events = child.run(_again(generation, 2))
    steps = _steps(events)
    assert steps == [*range(steps[0], 2 * STEPS + 1)]
    assert steps[0] > STEPS
    assert _digest(events) == unharmed


def test_a_suspended_attempt_loses_no_step(
    child: Child, new_generation: NewGeneration, whole: str
) -> None:
    generation = new_generation(num_inference_steps=STEPS)
    child.process.send(Run(generation=generation))
    told = []
    for event in child.events():
        told.append(event)
        if isinstance(event, Stepped) and event.step == 3:
            cancel = Cancel(generation_id=generation.id, attempt=1, resumable=True)
            child.process.send(cancel)
    assert isinstance(told[-1], Cancelled)

    events = child.run(_again(generation, 2))
    assert _steps(events)[0] >= _steps(told)[-1]
    assert _digest(events) == whole


def test_a_checkpoint_goes_when_the_picture_is_complete(
    child: Child, new_generation: NewGeneration
) -> None:
    generation = new_generation(num_inference_steps=STEPS)
    child.run(generation)
    assert ArtifactKeys(generation.id, 1).checkpoint not in child.store.keys("generations/")


def test_a_checkpoint_of_another_request_or_of_noise_is_passed_over(
    child: Child, new_generation: NewGeneration, whole: str
) -> None:
    generation = new_generation(num_inference_steps=STEPS)
    other = generation.model_copy(
        update={"request": generation.request.model_copy(update={"seed": 8})}
    )
    child.process.send(Run(generation=other))
    for event in child.events():
        if isinstance(event, Stepped) and event.step == 3:
            child.process.send(Cancel(generation_id=other.id, attempt=1, resumable=True))
    child.store.put(ArtifactKeys(generation.id, 2).checkpoint, b"noise", "application/octet-stream")

    events = child.run(_again(generation, 3))
    assert _steps(events) == [*range(1, STEPS + 1)]
    assert _digest(events) == whole
