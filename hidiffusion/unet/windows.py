"""MSW-MSA (paper, section 3.3): windows as index tensors, and the hooks that cut and merge them.

A map of H x W tokens is covered by a grid of equal windows of ceil(H/g) x ceil(W/g) tokens, after a
cyclic shift by quarters of a window. Where the side is no multiple of the window, the last window
starts early enough to end at the border: it overlaps its neighbour, and each token keeps the result
of the window it belongs to first. So every window is full of real tokens, at any size, and nothing
is padded, masked or resampled; where the side is a multiple, this is the published partition.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn

from hidiffusion.errors import HiDiffusionError, UnplannedCallError
from hidiffusion.unet.config import NUM_SHIFTS


class WindowGrid(NamedTuple):
    """Number of windows along the height and along the width."""

    rows: int
    columns: int

    @property
    def num_windows(self) -> int:
        """Number of windows."""
        return self.rows * self.columns


class WindowIndices(NamedTuple):
    """A partition of a batch of token maps and its inverse.

    Attributes:
        gather: int32 [B * num_windows * n], each window token's index in the flat batch.
        scatter: int32 [B * H * W], each token's index among those of the windows.
        num_windows: number of windows.
    """

    gather: torch.Tensor
    scatter: torch.Tensor
    num_windows: int

    def to(self, device: torch.device) -> WindowIndices:
        """Return the partition on a device; itself if it is there already."""
        return WindowIndices(self.gather.to(device), self.scatter.to(device), self.num_windows)

    def alias(self) -> WindowIndices:
        """Return the same memory as new tensors.

        A compiled graph is bound to which of its inputs are one tensor, so blocks that happen to
        draw the same shift must not share one.
        """
        return WindowIndices(self.gather.detach(), self.scatter.detach(), self.num_windows)


def partition(tokens: torch.Tensor, indices: WindowIndices) -> torch.Tensor:
    """Split token maps into windows: [B, H * W, C] to [B * num_windows, n, C]."""
    batch, _, channels = tokens.shape
    gathered = tokens.reshape(-1, channels).index_select(0, indices.gather)
    return gathered.view(batch * indices.num_windows, -1, channels)


def merge(tokens: torch.Tensor, indices: WindowIndices) -> torch.Tensor:
    """Undo `partition`: [B * num_windows, n, C] to [B, H * W, C]."""
    batch, channels = tokens.shape[0] // indices.num_windows, tokens.shape[-1]
    return tokens.reshape(-1, channels).index_select(0, indices.scatter).view(batch, -1, channels)


class WindowedAttention:
    """Hooks around a self-attention: its tokens in windows, and back.

    They sit around the module, not its processor, so whatever computes the attention stays: any
    processor set before or after, any backend, LoRA layers, slicing. What changes from block to
    block is data, so that blocks that are compiled one by one share their graphs.
    """

    def __init__(self) -> None:
        self._planned = False
        self._indices: WindowIndices | None = None

    def plan(self, indices: WindowIndices | None) -> None:
        """Take the windows of the call that begins; None leaves the attention as it is."""
        self._planned = True
        self._indices = indices

    def forget(self) -> None:
        """Forget them at the end of the call."""
        self._planned = False
        self._indices = None

    def split(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Forward pre-hook: hidden states [B, N, C] become windows [B * num_windows, n, C].

        Raises:
            UnplannedCallError: the block is called outside a call of the U-Net.
            HiDiffusionError: the map has another size than was planned, or a cache would answer
                with the windows of another step.
        """
        if not self._planned:
            raise UnplannedCallError(
                "a block of a patched U-Net was called by itself; call the U-Net, or "
                "remove_hidiffusion first"
            )
        if self._indices is None:
            return None
        if _keeps_outputs(module):
            raise HiDiffusionError(
                "a cache of diffusers keeps the outputs of self-attention, but in the order of the "
                "windows of one step, and each step has others; disable it, restrict it to "
                "cross-attention, or apply with window_attention=False"
            )
        if args:
            return (_checked_partition(args[0], self._indices), *args[1:]), kwargs
        tokens = _checked_partition(kwargs["hidden_states"], self._indices)
        return args, kwargs | {"hidden_states": tokens}

    def join(
        self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor
    ) -> torch.Tensor | None:
        """Forward hook: attention output [B * num_windows, n, C] becomes [B, N, C]."""
        del module, args
        return None if self._indices is None else merge(output, self._indices.to(output.device))


def _keeps_outputs(module: nn.Module) -> bool:
    """Whether a cache of diffusers answers for a module with what it gave in an earlier step."""
    registry: Any = getattr(module, "_diffusers_hook", None)
    return registry is not None and any(hook._is_stateful for hook in registry.hooks.values())


def _checked_partition(tokens: torch.Tensor, indices: WindowIndices) -> torch.Tensor:
    expected = indices.scatter.shape[0]
    if tokens.shape[0] * tokens.shape[1] != expected:
        raise HiDiffusionError(
            f"a windowed block got tokens {tuple(tokens.shape)}, planned were {expected} in all; "
            "another patch changes the size of this feature map: remove it"
        )
    return partition(tokens, indices.to(tokens.device))


@lru_cache(maxsize=64)
def window_indices(
    size: tuple[int, int],
    grid: WindowGrid,
    shifts: tuple[int, ...],
    *,
    batch: int,
    device: torch.device,
) -> WindowIndices:
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
        return WindowIndices(
            gather=(gather + sample * scatter.shape[1]).flatten(),
            scatter=(scatter + sample * gather.shape[1]).flatten(),
            num_windows=grid.num_windows,
        )


def _one_map(
    size: tuple[int, int], grid: WindowGrid, shift: int, device: torch.device
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
