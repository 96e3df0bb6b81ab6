"""Maps give back what was written, across strips, and forget what has been passed."""

import torch

from hidiffusion.decode.feature_map import FeatureMap
from hidiffusion.decode.tiles import Grid, Span
from tests.hidiffusion.decode.small_vae import noise

CPU = torch.device("cpu")


def _written(values: torch.Tensor, grid: Grid) -> FeatureMap:
    feature_map = FeatureMap(grid)
    for region in grid:
        rows, columns = region.rows, region.columns
        tile = values[:, :, rows.start : rows.stop, columns.start : columns.stop]
        feature_map.write(region, tile)
    return feature_map


def test_any_window_reads_back_as_written() -> None:
    values, grid = noise(2, 3, 11, 9), Grid.regular(11, 9, 4)
    feature_map = _written(values, grid)
    for rows, columns in (
        (Span(0, 11), Span(0, 9)),
        (Span(3, 9), Span(2, 7)),
        (Span(4, 8), Span(8, 9)),
    ):
        expected = values[:, :, rows.start : rows.stop, columns.start : columns.stop]
        assert torch.equal(feature_map.read(rows, columns, CPU), expected)


def test_released_rows_are_gone_and_the_others_stay() -> None:
    values, grid = noise(1, 2, 12, 4), Grid.regular(12, 4, 4)
    feature_map = _written(values, grid)
    feature_map.release_above(7)
    for rows in (Span(7, 12), Span(7, 8), Span(9, 11)):
        read = feature_map.read(rows, Span(0, 4), CPU)
        assert torch.equal(read, values[:, :, rows.start : rows.stop])
    assert feature_map.read(Span(2, 12), Span(0, 4), CPU).shape[2] == 5


def test_an_undivided_tensor_is_presented_without_a_copy() -> None:
    values = noise(1, 2, 8, 8)
    view = FeatureMap.whole(values, Grid.regular(8, 8, 4)).read(Span(1, 5), Span(2, 8), CPU)
    assert view.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()
