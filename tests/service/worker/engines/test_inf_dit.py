"""Inf-DiT as an engine of the pipeline process: a picture in, tiles out, resumed after kill -9."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hidiffusion.inf_dit import InfDiTUpscalePipeline
from service.channel import Run
from service.domain.artifacts import ArtifactKeys
from service.domain.generations.events import Event, Previewed, Stepped, Succeeded, TileStored
from service.domain.generations.generation import Generation
from service.settings import StoreSettings
from service.storage.store import open_store
from tests.hidiffusion.tiny import models as tiny_models
from tests.service.worker.conftest import Child, children
from tests.upscaler_models import STEPS, write_upscaler

NewGeneration = Callable[..., Generation]
KEY = "uploads/picture.png"


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 36, 3), np.uint8)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("upscalers")
    model = write_upscaler(folder, "large")
    path = folder / "catalog.json"
    draws = {
        "name": "tiny",
        "title": "tiny",
        "source": "tiny",
        "native_size": 64,
        "default_size": 64,
        "default_scheduler": "DDIMScheduler",
        "schedulers": ["DDIMScheduler"],
        "default_method": "direct",
        "methods": ["direct"],
    }
    tiny_models.sd_pipeline().save_pretrained(folder / "tiny")
    path.write_text(json.dumps({"models": [model, draws]}))
    return path


@pytest.fixture(scope="module")
def start(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Child]]:
    """Starts pipeline processes on one store, which holds the picture."""
    store = StoreSettings(url=tmp_path_factory.mktemp("store").as_uri())
    file = io.BytesIO()
    Image.fromarray(pixels()).save(file, "png")
    open_store(store).put(KEY, file.getvalue(), "image/png")
    with children(catalog, tmp_path_factory) as begin:

        def start() -> Child:
            child = begin(
                store,
                models=("large", "tiny"),
                checkpoint_every_steps=1,
                checkpoint_every_seconds=0,
            )
            child.hear()
            return child

        yield start


@pytest.fixture(scope="module")
def child(start: Callable[[], Child]) -> Child:
    return start()


def upscaling(new_generation: NewGeneration, scale: int = 4) -> Generation:
    made = new_generation(
        model="large",
        width=36 * scale,
        height=20 * scale,
        num_inference_steps=STEPS,
        scheduler="EDMHeun",
        image="picture",
        scale=scale,
    )
    return made.model_copy(update={"inputs": {"picture": KEY}})


def picture(child: Child, events: list[Event]) -> np.ndarray:
    assert isinstance(events[-1], Succeeded), events[-1]
    return np.asarray(Image.open(io.BytesIO(child.store.get(events[-1].manifest.image.key))))


@pytest.mark.parametrize("scale", [2, 4])
def test_the_result_is_the_librarys_picture(
    child: Child, catalog: Path, new_generation: NewGeneration, scale: int
) -> None:
    events = child.run(upscaling(new_generation, scale))
    pipe = InfDiTUpscalePipeline.from_pretrained(catalog.parent / "large", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(7)
    expected = pipe(pixels(), scale, num_inference_steps=STEPS, generator=generator).images[0]
    difference = np.abs(picture(child, events).astype(int) - np.asarray(expected))
    assert difference.max() <= 1


def test_progress_counts_chunks_and_tiles_come_while_the_last_evaluation_runs(
    child: Child, new_generation: NewGeneration
) -> None:
    events = child.run(upscaling(new_generation))
    steps = [event.step for event in events if isinstance(event, Stepped)]
    # 5 x 9 blocks in chunks of 4 x 4 are 2 x 3; five evaluations, the last of which makes tiles.
    assert steps == [*range(1, 2 * 3 * 4 + 1)]
    tiles = [event for event in events if isinstance(event, TileStored)]
    assert tiles[-1].done == tiles[-1].total == len(tiles)
    assert any(isinstance(event, Previewed) for event in events)
    kinds = [type(event) for event in events]
    assert kinds.index(TileStored) > max(n for n, kind in enumerate(kinds) if kind is Stepped)


def test_after_kill_9_the_next_attempt_goes_on_and_makes_the_same_picture(
    start: Callable[[], Child], child: Child, new_generation: NewGeneration
) -> None:
    unharmed = child.run(upscaling(new_generation))
    generation, victim = upscaling(new_generation), start()
    victim.process.send(Run(generation=generation))
    for event in victim.events():
        if isinstance(event, Stepped) and event.step == 20:
            break
    victim.process.kill()
    events = child.run(generation.model_copy(update={"attempt": 2}))
    steps = [event.step for event in events if isinstance(event, Stepped)]
    assert steps[0] in {6, 12, 18}, "it goes on between two evaluations"
    assert np.array_equal(picture(child, events), picture(child, unharmed))


def drawn_and_upscaled(new_generation: NewGeneration) -> Generation:
    upscale = {"model": "large", "scale": 2, "num_inference_steps": STEPS}
    return new_generation(width=64, height=40, num_inference_steps=4, upscale=upscale)


def test_a_picture_is_drawn_and_enlarged_in_one_generation(
    child: Child, catalog: Path, new_generation: NewGeneration
) -> None:
    generation = drawn_and_upscaled(new_generation)
    events = child.run(generation)
    steps = [(event.step, event.total) for event in events if isinstance(event, Stepped)]
    # 4 steps of drawing; 5 x 8 blocks are 2 x 2 chunks, and four evaluations before the last.
    assert steps == [(step, 4 + 4 * 4) for step in range(1, 21)]
    native = np.asarray(Image.open(io.BytesIO(child.store.get(keys_of(generation).native))))
    pipe = InfDiTUpscalePipeline.from_pretrained(catalog.parent / "large", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(7)
    expected = pipe(native, 2, num_inference_steps=STEPS, generator=generator).images[0]
    assert np.abs(picture(child, events).astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("killed_at", [pytest.param(3, marks=pytest.mark.long), 14])
def test_after_kill_9_in_either_stage_the_picture_is_the_same(
    start: Callable[[], Child], child: Child, new_generation: NewGeneration, killed_at: int
) -> None:
    unharmed = child.run(drawn_and_upscaled(new_generation))
    generation, victim = drawn_and_upscaled(new_generation), start()
    victim.process.send(Run(generation=generation))
    for event in victim.events():
        if isinstance(event, Stepped) and event.step == killed_at:
            break
    victim.process.kill()
    events = child.run(generation.model_copy(update={"attempt": 2}))
    steps = [event.step for event in events if isinstance(event, Stepped)]
    assert 0 < steps[0] - 1 < killed_at, "it goes on and does not begin again"
    assert np.array_equal(picture(child, events), picture(child, unharmed))


def keys_of(generation: Generation) -> ArtifactKeys:
    return ArtifactKeys(generation.id, generation.attempt)
