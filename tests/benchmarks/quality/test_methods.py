"""The quality bench in small: what the methods do for the bundled model."""

from pathlib import Path

import pytest

from benchmarks.quality.plan import DIRECT, Part, Size, Variant, prompts
from benchmarks.quality.results import measure_part
from benchmarks.quality.studio import Sampling, Studio

#: As the catalogue has them for the model: with the published thresholds.
HIDIFFUSION, GUIDED = Variant("hidiffusion"), Variant("hidiffusion-guided")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_twice_as_large_pictures_stay_whole_and_recognisable(tmp_path: Path) -> None:
    part = Part(Size(512, 512), prompts(8), 1, (DIRECT, HIDIFFUSION, GUIDED))
    studio = Studio(Sampling(steps=6), cache=tmp_path)
    studio.draw([*part.references(), *part.sampled()])
    methods = measure_part(studio, part)["methods"]

    def each(measure: str) -> list[float]:
        return [methods[str(variant)][measure]["value"] for variant in part.variants]

    direct, hidiffusion, guided = each("accuracy")
    assert guided >= 7 / 8
    assert hidiffusion >= 4 / 8 >= 2 * direct
    direct, hidiffusion, guided = each("agreement")
    assert guided > 0.95
    assert hidiffusion > direct + 0.1
    direct, _, guided = each("more_objects")
    assert direct >= 2 / 8 > guided
