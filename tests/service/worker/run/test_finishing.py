"""A picture is encoded and stored beside the next one's computing, on one Studio."""

import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.domain.generations.events import Event
from service.domain.generations.generation import Generation
from service.settings import Settings, StoreSettings, WorkerSettings
from service.storage.store import open_store
from service.worker.job.attempt import Attempt
from service.worker.run.generate import Studio
from service.worker.weights.pipelines import Pipelines

NewGeneration = Callable[..., Generation]


class _HeldStore:
    """A real store that keeps full pictures waiting until it is told to go on."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.panic: type[BaseException] | None = None

    def put(self, key: str, data: bytes, media_type: str) -> Any:
        if key.endswith("image.png"):
            self.reached.set()
            assert self.go_on.wait(120)
            if self.panic is not None:
                raise self.panic
        return self._store.put(key, data, media_type)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Scene:
    def __init__(self, catalog: Path, folder: Path) -> None:
        self.store = _HeldStore(open_store(StoreSettings(url=folder.as_uri())))
        settings = WorkerSettings(device="cpu", tile_size=64)
        self.pipelines = Pipelines(Settings(catalog=catalog, worker=settings))
        self.failed = threading.Event()
        self.studio = Studio(
            self.pipelines,
            self.store,  # type: ignore[arg-type]
            settings,
            on_failure=self.failed.set,
        )
        self.told: list[tuple[str, str]] = []

    def attempt(
        self, generation: Generation, hear: Callable[[Event], None] = lambda _: None
    ) -> Attempt:
        def emit(event: Event) -> None:
            self.told.append((generation.id, event.type))
            hear(event)

        return Attempt(generation, emit, lambda: False)

    def ends(self) -> list[tuple[str, str]]:
        return [each for each in self.told if each[1] in {"succeeded", "cancelled", "failed"}]


@pytest.fixture
def scene(catalog: Path, tmp_path: Path) -> Iterator[_Scene]:
    made = _Scene(catalog, tmp_path)
    yield made
    made.store.go_on.set()
    made.studio.finish()


def test_the_next_picture_is_drawn_before_the_last_one_is_stored(
    scene: _Scene, new_generation: NewGeneration
) -> None:
    first, second = new_generation(), new_generation(seed=8)

    def go_on_at_the_last_step(event: Event) -> None:
        if event.type == "step" and event.step == event.total:
            scene.store.go_on.set()

    scene.studio.draw([scene.attempt(first)])
    assert scene.store.reached.wait(120)
    assert scene.ends() == []
    scene.studio.draw([scene.attempt(second, hear=go_on_at_the_last_step)])
    scene.studio.finish()
    assert scene.ends() == [(first.id, "succeeded"), (second.id, "succeeded")]
    assert scene.told.index((second.id, "step")) < scene.told.index((first.id, "succeeded"))


def test_rows_of_a_batch_are_decoded_while_those_before_are_stored(
    scene: _Scene, new_generation: NewGeneration
) -> None:
    rows = [new_generation(seed=seed) for seed in (1, 2)]

    def go_on_at_a_tile(event: Event) -> None:
        if event.type == "tile":
            scene.store.go_on.set()

    last = scene.attempt(rows[1], hear=go_on_at_a_tile)
    scene.studio.run([scene.attempt(rows[0]), last])
    assert scene.ends() == [(row.id, "succeeded") for row in rows]


@pytest.mark.parametrize("how", ["cancelled", "suspended"])
def test_one_that_waits_for_the_last_one_can_be_stopped(
    scene: _Scene, new_generation: NewGeneration, how: str
) -> None:
    first, second = new_generation(), new_generation(seed=8)
    stored = threading.Event()
    put_aside: list[str] = []

    def hear(event: Event) -> None:
        if event.type == "tile" and event.done == event.total:
            stored.set()
        if event.type == "cancelled":
            put_aside.extend(scene.store.keys(attempt.keys.checkpoint))

    attempt = replace(scene.attempt(second, hear=hear), **{how: stored.is_set})
    scene.studio.draw([scene.attempt(first)])
    scene.studio.draw([attempt])
    assert scene.ends() == [(second.id, "cancelled")]
    assert bool(put_aside) == (how == "suspended")
    scene.store.go_on.set()
    scene.studio.finish()
    assert scene.ends() == [(second.id, "cancelled"), (first.id, "succeeded")]


@pytest.mark.parametrize("rows", [1, 2])
def test_a_model_can_be_dropped_while_its_last_picture_is_stored(
    scene: _Scene, new_generation: NewGeneration, rows: int
) -> None:
    last = new_generation(seed=rows)

    def go_on(event: Event) -> None:
        if event.type == "succeeded":
            scene.store.go_on.clear()

    before = [scene.attempt(new_generation(seed=seed), hear=go_on) for seed in range(1, rows)]
    if before:
        scene.store.go_on.set()
    scene.studio.draw([*before, scene.attempt(last)])
    network = weakref.ref(scene.pipelines.get("tiny").pipe.unet)
    scene.pipelines.keep_only("second")
    assert network() is None
    assert (last.id, "succeeded") not in scene.told


class _Panic(BaseException):
    """What a library in Rust raises where it cannot go on."""


def test_what_cannot_be_told_is_raised_and_said_at_once(
    scene: _Scene, new_generation: NewGeneration
) -> None:
    scene.store.panic = _Panic
    scene.studio.draw([scene.attempt(new_generation())])
    assert not scene.failed.is_set()
    scene.store.go_on.set()
    assert scene.failed.wait(120)
    with pytest.raises(_Panic):
        scene.studio.finish()
    assert scene.ends() == []
