"""The quality bench in small: what the methods do for the bundled model."""

from pathlib import Path

import pytest

from benchmarks.quality.plan import DIRECT, Part, Size, Variant, prompts
from benchmarks.quality.results import measure_part
from benchmarks.quality.studio import Sampling, Studio

GUIDED = Variant("hidiffusion-guided")
#: As the catalogue has it for the model.
HIDIFFUSION = Variant("hidiffusion", (("t1_ratio", 1.0),))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_twice_as_large_pictures_stay_whole_and_recognisable(tmp_path: Path) -> None:
    part = Part(Size(512, 512), prompts(6), 1, (DIRECT, HIDIFFUSION, GUIDED))
    studio = Studio(Sampling(steps=6), cache=tmp_path)
    studio.draw([*part.references(), *part.sampled()])
    methods = measure_part(studio, part)["methods"]

    def each(measure: str) -> list[float]:
        return [methods[str(variant)][measure]["value"] for variant in part.variants]

    direct, hidiffusion, guided = each("accuracy")
    assert guided >= 4 / 6 >= 2 * direct
    assert hidiffusion >= 3 / 6 >= 2 * direct
    direct, hidiffusion, guided = each("agreement")
    assert guided > 0.9 > hidiffusion - 0.1 > direct + 0.2
