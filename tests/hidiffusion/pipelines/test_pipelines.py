"""Every kind of pipeline that carries a supported U-Net: it runs, shrinks, and comes back."""

import re
from pathlib import Path

import pytest
import torch

from hidiffusion import HiDiffusionConfig, apply_hidiffusion, remove_hidiffusion
from tests.hidiffusion.pipelines.pipeline_cells import CELLS
from tests.hidiffusion.pipelines.pipeline_kinds import Cell, Sides

#: diffusers' Euler schedulers hand tensors to numpy 2 in a way that numpy deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PAGE = Path(__file__).parents[3] / "docs" / "pipelines.md"
FAMILIES = ("SD 1.5", "SD 2.1", "SDXL")


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_pipeline_runs_shrinks_and_comes_back(cell: Cell) -> None:
    pipe = cell.build()
    cell.load(pipe)
    direct = cell.call(pipe)
    apply_hidiffusion(pipe, config=HiDiffusionConfig(**cell.options))
    with Sides(pipe.unet) as sides:
        patched = cell.call(pipe)
    remove_hidiffusion(pipe)
    assert sides.seen == cell.expected_sides()
    assert torch.isfinite(patched).all()
    assert not torch.equal(patched, direct)
    assert torch.equal(cell.call(pipe), direct)


def table_rows() -> list[list[str]]:
    """Return the cells of the page's first table, the header's first."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if not re.fullmatch(r"-+", row[0])]


def test_the_page_shows_exactly_the_tested_cells() -> None:
    tested = {(cell.kind, cell.family) for cell in CELLS}
    header, *rows = [row for row in table_rows() if len(row) == 1 + len(FAMILIES)]
    assert tuple(header[1:]) == FAMILIES
    shown = {
        (row[0], family)
        for row in rows
        for family, mark in zip(FAMILIES, row[1:], strict=True)
        if mark == "yes"
    }
    assert shown == tested
