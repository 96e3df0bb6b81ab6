"""Nobody sees a picture before the checker has passed it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image

from service.channel import Warm
from service.domain.artifacts import Manifest
from service.domain.generations.events import Event, Failed, Succeeded
from service.domain.generations.generation import Generation
from service.settings import StoreSettings, WorkerSettings
from service.storage.store import open_store
from service.worker.engines.decoding import decoded
from service.worker.job.attempt import Attempt
from service.worker.job.checking import (
    Block,
    CheckerFailed,
    ContentFiltered,
    Pass,
    Picture,
    Replace,
    load_checker,
    shrunk,
)
from service.worker.job.stopwatch import Stopwatch
from service.worker.result.render import Rendering
from tests.hidiffusion.tiny import models as tiny_models
from tests.service.worker.conftest import Child

CHECKERS = "tests.service.worker.checkers"
NewGeneration = Callable[..., Generation]


class _Scene:
    """Renders one picture into a folder, under a checker."""

    def __init__(self, folder: Path, generation: Generation) -> None:
        self.store = open_store(StoreSettings(url=folder.as_uri()))
        self.told: list[Event] = []
        self._generation = generation

    @property
    def stored(self) -> int:
        return len(self.store.sizes("generations/"))

    def run(self, checker: Callable[[Picture], Any] | None) -> Manifest:
        request = self._generation.request
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(1, 4, request.height // 8, request.width // 8, generator=generator)
        attempt = Attempt(self._generation, self.told.append, lambda: False)
        stopwatch = Stopwatch()
        with Rendering(
            attempt,
            store=self.store,
            settings=WorkerSettings(tile_size=64),
            recipe={"request": request.model_dump()},
            stopwatch=stopwatch,
            checker=checker,
        ) as rendering:
            rendering.draw(
                lambda missing: decoded(
                    tiny_models.vae(), latents, attempt, missing=missing, stopwatch=stopwatch
                )
            )
            return rendering.finish()

    def picture(self, manifest: Manifest) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self.store.get(manifest.image.key))))


@pytest.fixture
def rendering(tmp_path: Path, new_generation: NewGeneration) -> _Scene:
    return _Scene(tmp_path, new_generation(width=200, height=152, prompt="a fox"))


def test_the_checker_sees_what_would_be_stored_before_anything_is(rendering: _Scene) -> None:
    unchecked = rendering.picture(rendering.run(None))
    rendering.store.delete_prefix("generations/")
    rendering.told.clear()
    seen: list[Picture] = []

    def check(picture: Picture) -> Pass:
        assert (rendering.stored, rendering.told) == (0, [])
        seen.append(picture)
        return Pass()

    checked = rendering.picture(rendering.run(check))

    assert np.array_equal(checked, unchecked)
    (picture,) = seen
    assert np.array_equal(picture.pixels, unchecked)
    assert (picture.prompt, picture.model) == ("a fox", "tiny")


def test_of_a_blocked_picture_nothing_is_stored_or_told(rendering: _Scene) -> None:
    with pytest.raises(ContentFiltered, match="too foxy"):
        rendering.run(lambda _: Block("too foxy"))
    assert (rendering.stored, rendering.told) == (0, [])


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_a_replacement_takes_the_pictures_place_everywhere(
    tmp_path: Path, new_generation: NewGeneration, bit_depth: int
) -> None:
    rendering = _Scene(
        tmp_path, new_generation(width=200, height=152, bit_depth=bit_depth, metadata=False)
    )
    grey = np.full((152, 200, 3), 127, np.uint8)
    manifest = rendering.run(lambda _: Replace(grey, "greyed"))

    full = 127 if bit_depth == 8 else 127 * 257
    picture = pyvips.Image.new_from_buffer(rendering.store.get(manifest.image.key), "").numpy()
    assert np.array_equal(picture, np.full((152, 200, 3), full))
    for key in rendering.store.sizes("generations/"):
        if "tiles_files" in key:
            assert np.all(np.asarray(Image.open(io.BytesIO(rendering.store.get(key)))) == 127)
    assert manifest.recipe["content_replaced"] == "greyed"


def _raise(_: Picture) -> Pass:
    raise RuntimeError("no weights")


@pytest.mark.parametrize(
    ("checker", "why"),
    [
        (_raise, "RuntimeError: no weights"),
        (lambda _: True, "answered True"),
        (lambda _: None, "answered None"),
        (lambda _: Replace(np.zeros((8, 8, 3), np.uint8), "x"), r"\(8, 8, 3\)"),
        (lambda _: Replace(np.zeros((152, 200, 3)), "x"), "float64"),
    ],
)
def test_without_a_verdict_nobody_sees_the_picture(
    rendering: _Scene, checker: Callable[[Picture], Any], why: str
) -> None:
    with pytest.raises(CheckerFailed, match=why):
        rendering.run(checker)
    assert (rendering.stored, rendering.told) == (0, [])


def test_the_small_copy_fits_and_keeps_the_shape() -> None:
    assert shrunk(np.full((1024, 2048, 3), 9, np.uint8)).shape == (256, 512, 3)
    assert shrunk(np.zeros((8, 16, 3), np.uint8)).shape == (8, 16, 3)


@pytest.mark.parametrize(
    "name",
    ["nowhere.at_all:x", f"{CHECKERS}:Missing", CHECKERS, "", f"{CHECKERS}:NOT_CALLABLE"],
)
def test_a_checker_that_is_none_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"the checker '{name}'"):
        load_checker(name)


def test_the_pipeline_process_blocks_and_shows_no_previews(
    start_child: Callable[..., Child], new_generation: NewGeneration
) -> None:
    child = start_child(checker=f"{CHECKERS}:ByPrompt")
    assert isinstance(child.hear(), Warm)
    blocked = new_generation(prompt="blocked")
    events = child.run(blocked)

    assert isinstance(events[-1], Failed)
    assert events[-1].error.reason == "CONTENT_FILTERED"
    assert events[-1].error.detail == "a test wants it blocked"
    assert not events[-1].error.retryable
    assert {event.type for event in events[:-1]} == {"step"}
    left = child.store.sizes(f"generations/{blocked.id}/")
    assert all(key.endswith(".safetensors") for key in left)

    events = child.run(new_generation(prompt="a fox"))
    assert isinstance(events[-1], Succeeded)
    assert {event.type for event in events[:-1]} == {"step", "tile"}
