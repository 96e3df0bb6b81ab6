"""Networks that spandrel reads, as an engine of the pipeline process."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from service.channel import Run
from service.domain.artifacts import ArtifactKeys
from service.domain.generations.events import Event, Failed, Succeeded, TileStored
from service.domain.generations.generation import Generation
from service.worker.weights.enlarger import TOLERANCE, Enlarger
from service.worker.weights.memory import Profiles, profile_path
from tests.service.worker.conftest import Child, child_settings
from tests.upscalers.conftest import PICTURE_KEY, picture

spandrel = pytest.importorskip("spandrel", reason="run `make upscalers`")

NewGeneration = Callable[..., Generation]

FILES = {"esrgan": "esrgan.pth", "swinir": "swinir.safetensors"}
SCALES = {"esrgan": 4, "swinir": 2, "wrong-scale": 2, "unknown": 2}


def enlarging(new_generation: NewGeneration, model: str) -> Generation:
    made = new_generation(
        model=model,
        width=300 * SCALES[model],
        height=150 * SCALES[model],
        num_inference_steps=1,
        scheduler="OnePass",
        image="picture",
        scale=SCALES[model],
    )
    return made.model_copy(update={"inputs": {"picture": PICTURE_KEY}})


def result(child: Child, events: list[Event]) -> np.ndarray:
    assert isinstance(events[-1], Succeeded), events[-1]
    return np.asarray(Image.open(io.BytesIO(child.store.get(events[-1].manifest.image.key))))


def whole(file: Path, pixels: np.ndarray) -> np.ndarray:
    """What spandrel makes of the picture in one piece."""
    descriptor = spandrel.ModelLoader().load_from_file(file)
    given = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    made = descriptor(given)[0].permute(1, 2, 0)
    return (made * 255).round().byte().numpy()


@pytest.mark.parametrize("model", FILES)
def test_tiles_are_what_the_whole_is(
    child: Child, catalog: Path, new_generation: NewGeneration, model: str
) -> None:
    events = child.run(enlarging(new_generation, model))
    expected = whole(catalog.parent / FILES[model], picture())
    assert np.abs(result(child, events).astype(int) - expected).max() <= 1
    tiles = [event for event in events if isinstance(event, TileStored)]
    assert tiles[-1].done == tiles[-1].total == len(tiles)


@pytest.mark.parametrize("model", FILES)
def test_the_margin_is_measured_and_what_it_leaves_is_known(catalog: Path, model: str) -> None:
    descriptor = spandrel.ModelLoader().load_from_file(catalog.parent / FILES[model])
    enlarger = Enlarger(descriptor)
    assert 8 <= enlarger.margin <= 64
    assert enlarger.difference <= TOLERANCE


def test_a_picture_is_drawn_and_enlarged_in_one_generation(
    child: Child, catalog: Path, new_generation: NewGeneration
) -> None:
    upscale = {"model": "esrgan", "scale": 4, "num_inference_steps": 1}
    generation = new_generation(width=64, height=40, num_inference_steps=4, upscale=upscale)
    events = child.run(generation)
    keys = ArtifactKeys(generation.id, generation.attempt)
    native = np.asarray(Image.open(io.BytesIO(child.store.get(keys.native))))
    expected = whole(catalog.parent / "esrgan.pth", native)
    assert np.abs(result(child, events).astype(int) - expected).max() <= 1


def test_after_kill_9_tiles_that_are_stored_are_not_made_again(
    start: Callable[[], Child], child: Child, new_generation: NewGeneration
) -> None:
    unharmed = child.run(enlarging(new_generation, "esrgan"))
    generation, victim = enlarging(new_generation, "esrgan"), start()
    victim.process.send(Run(generation=generation))
    for event in victim.events():
        if isinstance(event, TileStored):
            break
    victim.process.kill()
    events = child.run(generation.model_copy(update={"attempt": 2}))
    assert np.array_equal(result(child, events), result(child, unharmed))


@pytest.mark.parametrize(
    ("model", "words"),
    [("wrong-scale", "set scales to [4]"), ("unknown", "cannot be loaded from")],
)
def test_what_the_file_is_not_is_said(
    child: Child, new_generation: NewGeneration, model: str, words: str
) -> None:
    failed = child.run(enlarging(new_generation, model))[-1]
    assert isinstance(failed, Failed)
    assert words in failed.error.detail


def test_its_memory_is_measured_by_the_command(catalog: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(catalog.parent, tmp_path / "models") / "catalog.json"
    done = subprocess.run(
        [sys.executable, "-m", "service.worker.process.calibrate", "esrgan"],
        env={**os.environ, **child_settings(copy, tmp_path).environment(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (profile,) = Profiles.load(profile_path(copy, "esrgan")).profiles
    assert {point.pixels for point in profile.measured} >= {256**2, 1024**2}
    assert all(profile.run(point.pixels) >= point.bytes for point in profile.measured)


def test_a_file_is_added_by_the_command(catalog: Path, tmp_path: Path) -> None:
    own = shutil.copytree(catalog.parent / "tiny", tmp_path / "tiny").parent / "catalog.json"
    models = json.loads(catalog.read_text())["models"]
    own.write_text(json.dumps({"models": models[-1:]}))

    def models_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "service.cli", "models", *arguments]
        environment = {**os.environ, "HIDIFFUSION_CATALOG": str(own)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    source = str(catalog.parent / "swinir.safetensors")
    added = models_command("add", "--upscaler", source, "--name", "sharp")
    assert added.returncode == 0, added.stderr
    assert "SwinIR, 2 times larger" in added.stdout
    _, entry = json.loads(own.read_text())["models"]
    assert (own.parent / entry["source"]).is_file()
    assert (entry["engine"], entry["scales"]) == ("spandrel", [2])
    other = str(catalog.parent / "esrgan.pth")
    before = (own.parent / entry["source"]).read_bytes()
    twice = models_command("add", "--upscaler", other, "--name", "sharp")
    assert "has 'sharp' already" in twice.stdout + twice.stderr
    assert (own.parent / entry["source"]).read_bytes() == before
    assert [*(own.parent / "upscalers").iterdir()] == [own.parent / entry["source"]]
    checked = models_command("check")
    assert "sharp: good" in checked.stdout
    (own.parent / entry["source"]).unlink()
    assert "is missing" in models_command("check").stdout

    nothing = str(catalog.parent / "nothing.safetensors")
    refused = models_command("add", "--upscaler", nothing)
    assert refused.returncode
    assert "is no upscaler" in refused.stdout + refused.stderr
