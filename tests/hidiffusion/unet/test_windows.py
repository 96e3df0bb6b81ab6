"""The windows, as permutations and as attention."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from hidiffusion.unet.windows import WindowGrid, WindowIndices, merge, partition, window_indices

CPU = torch.device("cpu")
sides = st.integers(min_value=4, max_value=23)
grids = st.builds(WindowGrid, st.integers(1, 4), st.integers(1, 4))
shift = st.integers(0, 3)


def build(height: int, width: int, grid: WindowGrid, *shifts: int, batch: int = 1) -> WindowIndices:
    return window_indices((height, width), grid, shifts, batch=batch, device=CPU)


@given(sides, sides, grids, st.lists(shift, min_size=1, max_size=3), st.integers(1, 2))
def test_merge_undoes_partition(
    height: int, width: int, grid: WindowGrid, shifts: list[int], groups: int
) -> None:
    batch = groups * len(shifts)
    tokens = torch.randn(batch, height * width, 2)
    split = partition(tokens, build(height, width, grid, *shifts, batch=batch))
    assert split.shape[0] == batch * grid.num_windows
    assert torch.equal(merge(split, build(height, width, grid, *shifts, batch=batch)), tokens)


@given(sides, sides, grids, shift)
def test_every_window_is_full_of_distinct_tokens(
    height: int, width: int, grid: WindowGrid, drawn: int
) -> None:
    index = build(height, width, grid, drawn).gather.view(grid.num_windows, -1)
    assert index.shape[1] == -(-height // grid.rows) * -(-width // grid.columns)
    assert all(len(set(row.tolist())) == index.shape[1] for row in index)
    assert set(index.flatten().tolist()) == set(range(height * width))


@given(st.integers(2, 11), st.integers(2, 11), shift)
def test_even_maps_are_cut_as_published(rows: int, columns: int, drawn: int) -> None:
    """Roll by minus quarter windows, then cut into four (paper, section 3.3)."""
    height, width = 2 * rows, 2 * columns
    image = torch.arange(height * width).view(1, height, width)
    rolled = image.roll((-(rows // 4 * drawn), -(columns // 4 * drawn)), (1, 2))
    expected = rolled.view(2, rows, 2, columns).permute(0, 2, 1, 3).reshape(4, -1)
    index = build(height, width, WindowGrid(2, 2), drawn).gather.view(4, -1)
    assert torch.equal(index.long(), expected)


def window_tokens(side: int, count: int, drawn: int, position: int) -> set[int]:
    """The positions along one axis that a position attends to, by definition."""
    window = -(-side // count)
    offset = window // 4 * drawn
    start = min((position - offset) % side // window * window, side - window)
    return {(start + step + offset) % side for step in range(window)}


def masked_attention(
    tokens: torch.Tensor, height: int, width: int, grid: WindowGrid, drawn: int
) -> torch.Tensor:
    """Full attention with a mask that hides every token outside a query's window."""
    mask = torch.zeros(height * width, height * width, dtype=torch.bool)
    for query in range(height * width):
        row, column = divmod(query, width)
        for r in window_tokens(height, grid.rows, drawn, row):
            for c in window_tokens(width, grid.columns, drawn, column):
                mask[query, r * width + c] = True
    return scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=mask)


@given(st.integers(4, 9), st.integers(4, 9), st.builds(WindowGrid, *[st.integers(1, 3)] * 2), shift)
def test_windowed_attention_is_masked_attention(
    height: int, width: int, grid: WindowGrid, drawn: int
) -> None:
    tokens = torch.randn(1, height * width, 4, dtype=torch.float64)
    split = partition(tokens, build(height, width, grid, drawn))
    windowed = merge(
        scaled_dot_product_attention(split, split, split), build(height, width, grid, drawn)
    )
    expected = masked_attention(tokens, height, width, grid, drawn)
    torch.testing.assert_close(windowed, expected, rtol=0, atol=1e-12)


def test_each_sample_of_each_guidance_group_has_its_own_shift() -> None:
    index = build(8, 8, WindowGrid(2, 2), 0, 3, batch=4)
    alone = [build(8, 8, WindowGrid(2, 2), drawn).gather for drawn in (0, 3)]
    rows = index.gather.view(4, -1)
    for sample in range(4):
        assert torch.equal(rows[sample] - 64 * sample, alone[sample % 2])


def test_blocks_with_equal_shifts_get_tensors_of_their_own() -> None:
    first, second = (build(8, 8, WindowGrid(2, 2), 1).alias() for _ in range(2))
    assert first.gather is not second.gather
    assert first.gather.data_ptr() == second.gather.data_ptr()


@pytest.mark.parametrize("mode", [True, False])
def test_indices_made_in_inference_mode_serve_a_training_call(mode: bool) -> None:
    window_indices.cache_clear()
    with torch.inference_mode(mode=mode):
        index = build(6, 6, WindowGrid(2, 2), 2)
    tokens = torch.randn(1, 36, 2, requires_grad=True)
    merge(partition(tokens, index), index).sum().backward()
    assert torch.equal(tokens.grad, torch.ones_like(tokens))
