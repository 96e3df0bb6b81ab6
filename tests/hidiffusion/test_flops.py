"""The cost of the method, counted exactly, and the table that shows it."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.network import flops

README = Path(flops.__file__).parents[1] / "README.md"
DOCUMENT: dict[str, Any] = json.loads(flops.RESULTS.read_text())

#: TFLOP a step from an independent sketch of the method, to one decimal.
INDEPENDENT = {
    ("sdxl", "2048x2048"): {
        "direct": 35.9,
        "windows": 30.8,
        "down-sampler + windows": 13.3,
        "pooling + windows": 10.0,
    },
    ("sdxl", "4096x4096"): {
        "direct": 287.8,
        "windows": 205.3,
        "pooling + windows": 52.6,
        "down-sampler + pooling + windows": 35.2,
    },
    ("sd15", "1024x1024"): {"direct": 4.7, "windows": 3.4, "down-sampler + windows": 1.8},
    ("sd15", "2048x2048"): {
        "direct": 42.2,
        "windows": 21.6,
        "down-sampler + windows": 12.6,
        "down-sampler + pooling + windows": 11.3,
    },
}


#: Counted in each run of the tests; `make numerics` counts the others.
QUICK = {("sd15", (1024, 1024)), ("sdxl", (2048, 2048))}


@pytest.mark.parametrize(
    ("family", "size"),
    [
        pytest.param(
            family,
            size,
            id=f"{family}-{size[0]}x{size[1]}",
            marks=() if (family, size) in QUICK else pytest.mark.numerics,
        )
        for family in flops.models.CONFIGS
        for size in flops.SIZES
    ],
)
def test_the_counts_are_those_of_the_code(family: str, size: tuple[int, int]) -> None:
    """Every row of the table, each distinct stage counted once."""
    height, width = size
    assert flops.table(family, height, width) == DOCUMENT["families"][family][f"{height}x{width}"]


@pytest.mark.parametrize(("family", "size"), INDEPENDENT)
def test_the_counts_agree_with_an_independent_sketch(family: str, size: str) -> None:
    methods = DOCUMENT["families"][family][size]
    counted = {row["stage"]: row["flop"] / 1e12 for rows in methods.values() for row in rows}
    for stage, tflop in INDEPENDENT[family, size].items():
        assert counted[stage] == pytest.approx(tflop, abs=0.051), stage


def test_the_readme_shows_the_recorded_table() -> None:
    assert flops.markdown(DOCUMENT) in README.read_text()
