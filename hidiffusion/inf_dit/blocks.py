"""A layer of Inf-DiT, and what it is modulated by."""

from __future__ import annotations

from diffusers.models.attention import FeedForward
from torch import Tensor, nn
from torch.nn import functional as F

from hidiffusion.inf_dit.attention import BlockAttention, NearbyAttention
from hidiffusion.inf_dit.chunks import Chunk, Edges
from hidiffusion.inf_dit.positions import Rotary


class Embedding(nn.Module):
    """Linear, SiLU, linear: of the noise level, and of the picture's vector."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(channels, dim), nn.Linear(dim, dim)

    def forward(self, values: Tensor) -> Tensor:
        """Map `[B, channels]` to `[B, dim]`."""
        embedded: Tensor = self.linear_2(F.silu(self.linear_1(values)))
        return embedded


class Modulation(nn.Module):
    """SiLU and a linear layer: `count` vectors a token's normalised values are changed by."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, count * dim)
        self.count = count

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Return `count` vectors `[B, 1, C]`, to be broadcast over the tokens."""
        vectors: Tensor = self.linear(F.silu(condition))
        return vectors[:, None].chunk(self.count, -1)


class Block(nn.Module):
    """One layer; the first one may also look at the small picture."""

    def __init__(
        self,
        attn1: BlockAttention,
        attn2: NearbyAttention | None,
        *,
        dim: int,
        mlp: int,
        eps: float,
    ) -> None:
        super().__init__()
        self.norm1 = Modulation(dim, 4)
        self.attn1, self.attn2 = attn1, attn2
        self.eps = eps
        self.norm3 = nn.LayerNorm(dim, eps=eps) if attn2 else None
        self.ff = FeedForward(dim, inner_dim=mlp, activation_fn="gelu-approximate")

    def forward(
        self,
        tokens: Tensor,
        condition: Tensor,
        *,
        features: Tensor | None,
        angles: Rotary,
        chunk: Chunk,
        edges: Edges,
    ) -> Tensor:
        """Run the layer on `[rows, columns, B, T, C]`."""
        shift_a, scale_a, shift_m, scale_m = self.norm1(condition)
        normed = F.layer_norm(tokens, tokens.shape[-1:], eps=self.eps)
        tokens = tokens + self.attn1(normed * (1 + scale_a) + shift_a, angles, chunk, edges)
        if self.attn2 is not None and self.norm3 is not None:
            normed = F.layer_norm(tokens, tokens.shape[-1:], eps=self.eps)
            tokens = tokens + self.attn2(normed, features)
            normed = self.norm3(tokens)
        else:
            normed = F.layer_norm(tokens, tokens.shape[-1:], eps=self.eps)
        mixed: Tensor = tokens + self.ff(normed * (1 + scale_m) + shift_m)
        return mixed
