"""The windows of MSW-MSA (paper, section 3.3) as index tensors.

A map of H x W tokens is covered by a grid of equal windows of ceil(H/g) x ceil(W/g) tokens, after a
cyclic shift by quarters of a window. Where the side is no multiple of the window, the last window
starts early enough to end at the border: it overlaps its neighbour, and each token keeps the result
of the window it belongs to first. So every window is full of real tokens, at any size, and nothing
is padded, masked or resampled; where the side is a multiple, this is the published partition.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch

from hidiffusion.unet.config import NUM_SHIFTS


class Grid(NamedTuple):
    """Number of windows along the height and along the width."""

    rows: int
    columns: int

    @property
    def num_windows(self) -> int:
        """Number of windows."""
        return self.rows * self.columns


class Windows(NamedTuple):
    """A partition of a batch of token maps and its inverse.

    Attributes:
        gather: int32 [B * num_windows * n], each window token's index in the flat batch.
        scatter: int32 [B * H * W], each token's index among those of the windows.
        num_windows: number of windows.
    """

    gather: torch.Tensor
    scatter: torch.Tensor
    num_windows: int

    def to(self, device: torch.device) -> Windows:
        """Return the partition on a device; itself if it is there already."""
        return Windows(self.gather.to(device), self.scatter.to(device), self.num_windows)

    def alias(self) -> Windows:
        """Return the same memory as new tensors.

        A compiled graph is bound to which of its inputs are one tensor, so blocks that happen to
        draw the same shift must not share one.
        """
        return Windows(self.gather.detach(), self.scatter.detach(), self.num_windows)


def partition(tokens: torch.Tensor, windows: Windows) -> torch.Tensor:
    """Split token maps into windows: [B, H * W, C] to [B * num_windows, n, C]."""
    batch, _, channels = tokens.shape
    gathered = tokens.reshape(-1, channels).index_select(0, windows.gather)
    return gathered.view(batch * windows.num_windows, -1, channels)


def merge(tokens: torch.Tensor, windows: Windows) -> torch.Tensor:
    """Undo `partition`: [B * num_windows, n, C] to [B, H * W, C]."""
    batch, channels = tokens.shape[0] // windows.num_windows, tokens.shape[-1]
    return tokens.reshape(-1, channels).index_select(0, windows.scatter).view(batch, -1, channels)


@lru_cache(maxsize=64)
def windows(
    size: tuple[int, int],
    grid: Grid,
    shifts: tuple[int, ...],
    *,
    batch: int,
    device: torch.device,
) -> Windows:
    """Build the indices for a batch of token maps.

    Args:
        size: height and width of the map in tokens.
        grid: number of windows along each axis.
        shifts: tuple of shifts in quarters of a window, repeated over the batch: one for all
            samples, or one for each sample of a guidance group.
        batch: number of maps; a multiple of the number of shifts.
        device: where the indices are built.

    Returns:
        The partition and its inverse.
    """
    # A tensor cached by a call in inference mode must still serve a call that trains.
    with torch.inference_mode(mode=False):
        maps = [_one_map(size, grid, shift, device) for shift in shifts]
        repeats = batch // len(shifts)
        gather = torch.stack([gather for gather, _ in maps]).repeat(repeats, 1)
        scatter = torch.stack([scatter for _, scatter in maps]).repeat(repeats, 1)
        sample = torch.arange(batch, dtype=torch.int32, device=device).unsqueeze(1)
        return Windows(
            gather=(gather + sample * scatter.shape[1]).flatten(),
            scatter=(scatter + sample * gather.shape[1]).flatten(),
            num_windows=grid.num_windows,
        )


def _one_map(
    size: tuple[int, int], grid: Grid, shift: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (gather, scatter) of one map, both one-dimensional."""
    height, width = size
    rows, row_of, row_in = _axis(height, grid.rows, shift, device)
    columns, column_of, column_in = _axis(width, grid.columns, shift, device)
    gather = rows[:, None, :, None] * width + columns[None, :, None, :]
    window = row_of[:, None] * grid.columns + column_of
    within = row_in[:, None] * columns.shape[1] + column_in
    scatter = window * (rows.shape[1] * columns.shape[1]) + within
    return gather.flatten(), scatter.flatten()


def _axis(
    side: int, count: int, shift: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cut one axis.

    Returns:
        The positions in each window [count, window], the window of each position [side], and the
        place of each position in its window [side].
    """
    window = -(-side // count)
    offset = window // NUM_SHIFTS * shift
    starts = torch.arange(count, dtype=torch.int32, device=device).mul(window)
    starts = starts.clamp(max=side - window)
    within = torch.arange(window, dtype=torch.int32, device=device)
    positions = (starts[:, None] + within + offset) % side
    rolled = (torch.arange(side, dtype=torch.int32, device=device) - offset) % side
    owner = rolled // window
    return positions, owner, rolled - starts[owner]
