"""The quality bench in small: what the bundled model's default method does for it."""

from pathlib import Path

import pytest

from benchmarks.quality.plan import DIRECT, Part, Size, Variant, prompts
from benchmarks.quality.results import measure_part
from benchmarks.quality.studio import Sampling, Studio

GUIDED = Variant("hidiffusion-guided")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twice_as_large_pictures_stay_whole_and_recognisable(tmp_path: Path) -> None:
    part = Part(Size(512, 512), prompts(6), 1, (DIRECT, GUIDED))
    studio = Studio(Sampling(steps=6), cache=tmp_path)
    studio.draw([*part.references(), *part.sampled()])
    methods = measure_part(studio, part)["methods"]

    def both(measure: str) -> tuple[float, float]:
        return methods[str(DIRECT)][measure]["value"], methods[str(GUIDED)][measure]["value"]

    direct, guided = both("accuracy")
    assert guided >= 4 / 6 >= 2 * direct
    direct, guided = both("agreement")
    assert guided > 0.9 > direct + 0.2
