"""Previews of unfinished latents."""

import io
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from hidiffusion.decode import PreviewFactors
from service.application.ports import ObjectInfo, ObjectStore
from service.domain.errors import Unavailable
from service.domain.generations.events import Event
from service.domain.generations.generation import Generation
from service.settings import StoreSettings
from service.storage.store import open_store
from service.worker.job.attempt import Attempt
from service.worker.result.preview import Previews

#: The first latent channel is red, the second green, the third blue.
FACTORS = PreviewFactors(
    weights=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)), bias=(0, 0, 0)
)


@pytest.fixture
def memory() -> ObjectStore:
    return open_store(StoreSettings(url="memory:///"))


def _previews(generation: Generation, store: object, told: list[Event]) -> Previews:
    attempt = Attempt(generation, told.append, lambda: False)
    return Previews(attempt, store, FACTORS)  # type: ignore[arg-type]


def test_a_preview_shows_the_latents(
    memory: ObjectStore, new_generation: Callable[..., Generation]
) -> None:
    latents = torch.full((1, 4, 20, 40), -1.0)
    latents[0, 0, :, 20:] = 1.0
    told: list[Event] = []
    with _previews(new_generation(), memory, told).running() as previews:
        previews.show(5, latents)
    (event,) = told
    assert event.type == "preview"
    assert (event.step, event.width, event.height) == (5, 256, 128)
    picture = np.asarray(Image.open(io.BytesIO(memory.get(event.key)))).astype(int)
    assert picture[:, :120].max() < 40
    assert picture[:, 136:, 0].min() > 215
    assert picture[:, 136:, 1:].max() < 40


class _Slow:
    """A store that takes its time, or cannot be reached."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.released = threading.Event()
        self.entered = threading.Event()
        self.down = False

    def put(self, key: str, data: bytes, media_type: str) -> ObjectInfo:
        self.entered.set()
        assert self.released.wait(10)
        if self.down:
            raise Unavailable("store", "no route")
        return self._store.put(key, data, media_type)


def test_a_slow_store_gets_fewer_previews(
    memory: ObjectStore, new_generation: Callable[..., Generation]
) -> None:
    store, told = _Slow(memory), list[Event]()
    with _previews(new_generation(), store, told).running() as previews:
        previews.show(1, torch.zeros(1, 4, 8, 8))
        assert store.entered.wait(10)
        previews.show(2, torch.zeros(1, 4, 8, 8))
        store.released.set()
    assert [event.step for event in told if event.type == "preview"] == [1]


def test_the_last_preview_has_a_pixel_for_each_latent_and_is_never_left_out(
    memory: ObjectStore, new_generation: Callable[..., Generation]
) -> None:
    store, told = _Slow(memory), list[Event]()
    latents = torch.full((1, 4, 30, 300), -1.0)
    latents[0, 1, 7, 250] = 1.0
    with _previews(new_generation(), store, told).running() as previews:
        previews.show(3, torch.zeros(1, 4, 8, 8))
        assert store.entered.wait(10)
        previews.show_last(4, latents)
        store.released.set()
    assert [event.step for event in told if event.type == "preview"] == [3, 4]
    last = told[-1]
    assert last.type == "preview"
    picture = np.asarray(Image.open(io.BytesIO(memory.get(last.key))))
    assert picture.shape == (30, 300, 3)
    assert np.unravel_index(picture[..., 1].argmax(), (30, 300)) == (7, 250)


def test_a_preview_that_cannot_be_stored_is_no_failure(
    memory: ObjectStore, new_generation: Callable[..., Generation]
) -> None:
    store, told = _Slow(memory), list[Event]()
    store.down = True
    store.released.set()
    with _previews(new_generation(), store, told).running() as previews:
        previews.show(1, torch.zeros(1, 4, 8, 8))
    assert told == []
