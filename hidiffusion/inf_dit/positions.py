"""Rotary positions on two axes: pure arithmetic.

The first half of a head is turned by the token's row, the second by its column, in neighbouring
pairs, with the frequencies of RoFormer (Su et al., arXiv 2104.09864) on half the width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hidiffusion.inf_dit.chunks import Chunk


class Rotary(NamedTuple):
    """Angles of the tokens of a chunk, each `[rows, columns, 1, 1, T, head_dim / 2]`."""

    cosine: Tensor
    sine: Tensor


def rotary(
    chunk: Chunk, tokens: int, head_dim: int, *, theta: float, modulo: int | None, like: Tensor
) -> Rotary:
    """Compute the angles of a chunk's tokens.

    Args:
        chunk: the blocks.
        tokens: tokens along a block's side.
        head_dim: width of a head, a multiple of 4.
        theta: base of the frequencies.
        modulo: positions start again at 0 after so many tokens; `None` never does.
        like: gives device, and dtype where that is wider than float32.

    Returns:
        The angles' cosines and sines, for the axes `[rows, columns, B, heads, T, pairs]`.
    """
    dtype = torch.promote_types(torch.float32, like.dtype)
    quarter = head_dim // 4
    exponents = torch.arange(quarter, device=like.device, dtype=dtype) / quarter
    frequencies = theta**-exponents

    def angles(first: int, blocks: int) -> Tensor:
        places = torch.arange(first * tokens, (first + blocks) * tokens, device=like.device)
        places = places if modulo is None else places % modulo
        return (places.to(dtype)[:, None] * frequencies).view(blocks, tokens, quarter)

    rows, columns = angles(chunk.top, chunk.rows), angles(chunk.left, chunk.columns)
    shape = (chunk.rows, chunk.columns, tokens, tokens, quarter)
    both = torch.cat(
        [rows[:, None, :, None].expand(shape), columns[None, :, None].expand(shape)], -1
    ).view(chunk.rows, chunk.columns, 1, 1, tokens * tokens, 2 * quarter)
    return Rotary(both.cos(), both.sin())


def turn(heads: Tensor, angles: Rotary) -> Tensor:
    """Rotate `[rows, columns, B, heads, T, head_dim]` by the angles; the dtype stays."""
    pairs = heads.to(angles.cosine.dtype).view(*heads.shape[:-1], -1, 2)
    first, second = pairs.unbind(-1)
    turned = torch.stack(
        [
            first * angles.cosine - second * angles.sine,
            second * angles.cosine + first * angles.sine,
        ],
        -1,
    )
    return turned.flatten(-2).to(heads.dtype)


def sinusoid(noise: Tensor, channels: int) -> Tensor:
    """Embed noise levels `[B]` as `[B, channels]`: cosines, then sines (section 3 of the paper)."""
    half = channels // 2
    steps = torch.arange(half, device=noise.device, dtype=noise.dtype) / half
    angles = noise[:, None] * 10000.0**-steps
    return torch.cat([angles.cos(), angles.sin()], 1)
