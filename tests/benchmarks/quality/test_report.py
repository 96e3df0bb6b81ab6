"""What the quality bench writes for people."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import report
from benchmarks.quality.plan import DIRECT, NATIVE_SIZE, Job, Part, Prompt, Size, Variant
from benchmarks.quality.results import measure_part
from benchmarks.quality.studio import Sampling, Studio
from models.train.blocks import fill_block

SIZE = Size(512, 512)
EMOJI = Path(__file__).parents[2] / "models" / "data" / "apple.webp"


@pytest.fixture
def part() -> Part:
    return Part(SIZE, (Prompt("apple", "a red apple"),), 1, (DIRECT, Variant("lanczos")))


@pytest.fixture
def studio(tmp_path: Path, part: Part) -> Studio:
    """A studio whose direct picture is the native one four times."""
    studio = Studio(Sampling(), cache=tmp_path)
    transparent = Image.open(EMOJI).convert("RGBA")
    ground = Image.new("RGBA", transparent.size, "white")
    native = np.asarray(Image.alpha_composite(ground, transparent).convert("RGB"))
    pictures = {NATIVE_SIZE: native, SIZE: np.tile(native, (2, 2, 1))}
    for size, pixels in pictures.items():
        file = studio.file(Job(part.prompts[0], 0, size, DIRECT))
        file.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(file)
    return studio


def test_repetition_is_found_and_the_baseline_has_none(studio: Studio, part: Part) -> None:
    measured = measure_part(studio, part)["methods"]
    direct, baseline = measured["direct"], measured["lanczos"]
    assert (direct["objects"]["value"], baseline["objects"]["value"]) == (4, 1)
    assert (direct["more_objects"]["value"], baseline["more_objects"]["value"]) == (1, 0)
    assert baseline["accuracy"]["value"] == 1
    assert baseline["agreement"]["value"] > 0.99 > direct["agreement"]["value"]
    assert baseline["minus_direct"]["more_objects"]["value"] == -1


def test_tables_and_grids_show_every_method(studio: Studio, part: Part, tmp_path: Path) -> None:
    document = {
        "model": "toy",
        "sampling": {"steps": 1, "scheduler": "ddim", "guidance_scale": 1.0, "precision": "x"},
        "sizes": {str(SIZE): measure_part(studio, part)},
    }
    text = report.tables(document)
    assert "1 prompts (1 nouns) x 1 seeds" in text
    assert "| direct | 100% (100% to 100%) |" in text
    assert "| lanczos | 0% (0% to 0%) |" in text
    report.grid(studio, part, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as sheet:
        assert sheet.height == 3 * report.HEIGHT
    report.plot_sweep(document["sizes"][str(SIZE)], tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 1000


def test_a_block_is_replaced_and_its_surroundings_stay(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- begin x -->\nold \\1\n<!-- end x -->\nafter\n")
    for body in ("one", r"two \1"):
        fill_block(file, "x", body)
        assert file.read_text() == f"before\n<!-- begin x -->\n{body}\n<!-- end x -->\nafter\n"
    with pytest.raises(ValueError, match="'y'"):
        fill_block(file, "y", "")
