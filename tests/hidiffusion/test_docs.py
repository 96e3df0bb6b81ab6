"""docs/library.md names every setting, family and error, and shows the figures that exist."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from hidiffusion import HiDiffusionConfig, errors
from hidiffusion.unet.families import FAMILIES

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "library.md").read_text()

NAMES = [
    *(field.name for field in fields(HiDiffusionConfig)),
    *(family.name for family in FAMILIES),
    *(name for name in vars(errors) if name.endswith("Error")),
]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_documented(name: str) -> None:
    assert f"`{name}`" in TEXT


def test_every_figure_is_there() -> None:
    figures = re.findall(r"\]\((images/[^)]+)\)", TEXT)
    assert figures
    assert all((DOCS / figure).is_file() for figure in figures)
