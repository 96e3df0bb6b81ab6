"""The geometry: tiles cover everything once, and a window holds exactly what its tile needs."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from hidiffusion.decode.tiles import Grid, Reach, Span

SIZES = st.integers(1, 40)


@given(SIZES, SIZES, st.integers(1, 12))
def test_a_grid_covers_each_pixel_once(height: int, width: int, tile: int) -> None:
    covered = torch.zeros(height, width)
    grid = Grid.regular(height, width, tile)
    for region in grid:
        rows, columns = region.rows, region.columns
        covered[rows.start : rows.stop, columns.start : columns.stop] += 1
    assert (covered == 1).all()
    assert len(list(grid)) == grid.count


@given(SIZES, SIZES, st.integers(1, 12), st.integers(0, 7), st.integers(0, 7))
def test_halving_undoes_enlarging_by_eight(
    height: int, width: int, tile: int, extra_rows: int, extra_columns: int
) -> None:
    grid = Grid.regular(height, width, tile)
    large = grid.enlarged(8, 8 * height + extra_rows, 8 * width + extra_columns)
    assert large.halved().halved().halved() == grid
    assert grid.doubled().doubled().doubled() == grid.enlarged(8, 8 * height, 8 * width)


KERNEL = torch.tensor([[[1.0, 10.0, 100.0]]], dtype=torch.float64)


def _layer(reach: Reach, rows: torch.Tensor) -> torch.Tensor:
    """What each reach stands for, on one axis."""
    if reach is Reach.DOWNSAMPLE:
        return functional.conv1d(functional.pad(rows, (0, 1)), KERNEL, stride=2)
    if reach is Reach.UPSAMPLE:
        rows = rows.repeat_interleave(2, dim=-1)
    return functional.conv1d(rows, KERNEL, padding=1)


@given(st.sampled_from(Reach), st.integers(2, 40), st.integers(1, 9), st.integers(0, 9))
def test_a_tile_from_its_window_equals_the_same_rows_of_the_whole(
    reach: Reach, length: int, tile: int, position: int
) -> None:
    source = torch.arange(1.0, length + 1, dtype=torch.float64)[None, None]
    whole = _layer(reach, source)
    scale = 2 if reach is Reach.UPSAMPLE else 1
    start = min(scale * position, whole.shape[-1] - 1) // scale * scale
    core = Span(start, min(start + scale * tile, whole.shape[-1]))
    view = reach.view(core, length)
    window = source[..., view.window.start : view.window.stop]
    assert torch.equal(_layer(reach, window)[..., view.crop], whole[..., core.start : core.stop])
    assert view.window.length <= 2 * core.length + 2
