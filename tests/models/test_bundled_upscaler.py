"""The bundled upscaler: that it loads cleanly, and that it helps."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.upscale import RESULT, gmsd, psnr, table
from hidiffusion.inf_dit import InfDiTUpscalePipeline

FOLDER = Path(__file__).parents[2] / "models" / "fluent-emoji-x4"
DATA = Path(__file__).with_name("data")


@pytest.fixture(scope="module")
def pipeline() -> InfDiTUpscalePipeline:
    """The model as a user loads it; a warning is an error here as everywhere in the suite."""
    pipe = InfDiTUpscalePipeline.from_pretrained(FOLDER, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _scene() -> Image.Image:
    """Shapes with soft edges, which it was not trained on."""
    large = Image.new("RGB", (1024, 1024), "white")
    pen = ImageDraw.Draw(large)
    pen.ellipse((120, 160, 800, 860), fill=(230, 120, 40), outline=(60, 30, 20), width=24)
    pen.polygon([(300, 300), (620, 380), (420, 700)], fill=(40, 90, 200))
    for place in range(6):
        pen.line((40, 80 + 150 * place, 980, 40 + 170 * place), fill=(20, 120, 60), width=12)
    return large.resize((256, 256), Image.Resampling.BOX)


def _emoji() -> Image.Image:
    return Image.open(DATA / "guitar.webp").convert("RGB")


@pytest.mark.parametrize("true", [_scene(), _emoji()], ids=["drawn", "emoji"])
def test_it_is_nearer_to_the_truth_than_a_filter(
    pipeline: InfDiTUpscalePipeline, true: Image.Image
) -> None:
    small = true.resize((64, 64), Image.Resampling.BICUBIC)
    generator = torch.Generator().manual_seed(0)
    (made,) = pipeline(small, 4, num_inference_steps=1, generator=generator).images
    filtered = small.resize((256, 256), Image.Resampling.LANCZOS)

    wanted, ours, theirs = _pixels(true), _pixels(made), _pixels(filtered)
    assert psnr(ours, wanted) > psnr(theirs, wanted) + 0.1
    assert gmsd(ours, wanted) < 0.9 * gmsd(theirs, wanted)


def test_the_card_shows_what_was_measured() -> None:
    measured = json.loads(RESULT.read_text())
    assert table(measured) in (FOLDER / "README.md").read_text()


def _pixels(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture)
