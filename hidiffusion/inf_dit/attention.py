"""The two attentions of Inf-DiT: to neighbouring blocks, and to the small picture nearby.

Tokens are kept block by block: `[rows, columns, B, T, C]`, with `T` tokens in a block.
Attention runs one row of blocks at a time, so what it copies never grows with a chunk's height.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hidiffusion.inf_dit.chunks import Chunk, Edges
from hidiffusion.inf_dit.positions import Rotary, turn

#: A block's keys come in the order of the trained `block_embed`: itself, left-top, left, top.
SLOTS = 4


def heads_of(tokens: Tensor, heads: int) -> Tensor:
    """Turn `[..., T, C]` into `[..., heads, T, C / heads]`."""
    return tokens.view(*tokens.shape[:-1], heads, -1).transpose(-3, -2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend in `[columns, B, heads, T, d]`; returns `[columns, B, T, heads * d]`."""
    shape = query.shape[:2]
    out = F.scaled_dot_product_attention(
        query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
    )
    return out.transpose(1, 2).reshape(*shape, query.shape[-2], -1)


class BlockAttention(nn.Module):
    """Self-attention of each block to itself and to the blocks on its left and above (UniBA).

    Args:
        dim: width of the tokens.
        heads: number of heads.
        qk_norm: whether queries and keys are normalised, by one norm for both.
        block_embed: whether keys carry which of the four blocks they are from.
        eps: of the norm.
    """

    def __init__(self, dim: int, heads: int, qk_norm: bool, block_embed: bool, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_qk = nn.LayerNorm(dim // heads, eps=eps) if qk_norm else nn.Identity()
        shape = (SLOTS, heads, dim // heads)
        self.block_embed = nn.Parameter(torch.zeros(shape)) if block_embed else None

    def forward(self, tokens: Tensor, angles: Rotary, chunk: Chunk, edges: Edges) -> Tensor:
        """Attend within a chunk and to the border of what was computed before it.

        Args:
            tokens: `[rows, columns, B, T, C]`.
            angles: rotary angles of the chunk.
            chunk: where it lies.
            edges: this layer's memory of the running evaluation.

        Returns:
            `[rows, columns, B, T, C]`.
        """
        query = turn(self.norm_qk(heads_of(self.to_q(tokens), self.heads)), angles)
        key = turn(self.norm_qk(heads_of(self.to_k(tokens), self.heads)), angles)
        value = heads_of(self.to_v(tokens), self.heads)
        lines = edges.surround(chunk, torch.stack([key, value], 2)).unbind()
        del key, value
        rows = (
            attend(line, *self._neighbours(*pair))
            for line, pair in zip(query.unbind(), itertools.pairwise(lines), strict=True)
        )
        attended: Tensor = self.to_out[0](torch.stack(list(rows)))
        return attended

    def _neighbours(self, upper: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
        """Gather four blocks for each of the lower line; `[columns + 1, 2, B, heads, T, d]`."""
        blocks = (lower[1:], upper[:-1], lower[:-1], upper[1:])
        keys, values = torch.cat(blocks, -2).unbind(1)
        if self.block_embed is None:
            return keys, values
        embed = self.block_embed.transpose(0, 1).repeat_interleave(upper.shape[-2], 1)
        return keys + embed, values


class NearbyAttention(nn.Module):
    """Cross-attention of each block to the 3x3 blocks of the small picture around it.

    Args:
        dim: width of the tokens.
        heads: number of heads.
        tokens: tokens of a block.
        lr_side: tokens along the side of a block of the small picture.
        eps: of the norms.
    """

    def __init__(self, dim: int, heads: int, tokens: int, lr_side: int, eps: float) -> None:
        super().__init__()
        self.heads, self.lr_side = heads, lr_side
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_q, self.norm_k = (nn.LayerNorm(dim // heads, eps=eps) for _ in range(2))
        self.query_pos = nn.Parameter(torch.zeros(tokens, heads, dim // heads))
        self.key_pos = nn.Parameter(torch.zeros((3 * lr_side) ** 2, heads, dim // heads))

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        """Attend to the small picture.

        Args:
            tokens: `[rows, columns, B, T, C]`.
            features: `[B, C, (rows + 2) * side, (columns + 2) * side]`, features of the small
                picture under the chunk and one block around it, zero outside the picture.

        Returns:
            `[rows, columns, B, T, C]`.
        """
        query = self.norm_q(heads_of(self.to_q(tokens), self.heads)) + self.query_pos.transpose(
            0, 1
        )
        small = features.permute(2, 3, 0, 1)
        shape = (*small.shape[:-1], self.heads, -1)
        both = torch.stack(
            [self.norm_k(self.to_k(small).view(shape)), self.to_v(small).view(shape)], 2
        )
        lines = both.unfold(0, 3 * self.lr_side, self.lr_side).unbind()
        rows = (
            attend(line, *self._windows(around))
            for line, around in zip(query.unbind(), lines, strict=True)
        )
        attended: Tensor = self.to_out[0](torch.stack(list(rows)))
        return attended

    def _windows(self, lines: Tensor) -> tuple[Tensor, Tensor]:
        """Cut three lines of blocks into the windows of the middle line's blocks.

        From `[(columns + 2) * side, 2, B, heads, d, 3 * side]`, the last axis being the rows, to
        twice `[columns, B, heads, (3 * side)^2, d]`.
        """
        windows = lines.unfold(0, 3 * self.lr_side, self.lr_side)
        keys, values = windows.permute(0, 1, 2, 3, 5, 6, 4).flatten(4, 5).unbind(1)
        return keys + self.key_pos.transpose(0, 1), values
