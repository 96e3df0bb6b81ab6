"""What the chart renders is what was reviewed: a change of the chart shows as a change of a file.

After a change that is meant:  HIDIFFUSION_TEST_RENDERS=write make chart
"""

import os
from pathlib import Path

import pytest

from tests.deploy.test_chart import CHART, TOOLS, VALUES, helm

GOLDEN = Path(__file__).with_name("golden")

pytestmark = pytest.mark.skipif(
    not TOOLS, reason="helm is fetched by `make chart`, which runs these tests"
)


@pytest.mark.parametrize("name", VALUES)
def test_the_chart_renders_what_was_reviewed(name: str) -> None:
    finished = helm("template", "pictures", str(CHART), "-f", str(VALUES[name]))
    assert finished.returncode == 0, finished.stderr
    reviewed = GOLDEN / f"{name}.yaml"
    if os.environ.get("HIDIFFUSION_TEST_RENDERS") == "write":
        reviewed.write_text(finished.stdout, encoding="utf-8")
    assert finished.stdout == reviewed.read_text(encoding="utf-8")
