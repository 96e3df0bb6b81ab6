"""The two kinds of blocks: self-attention, or a depthwise convolution, and a gated MLP."""

from __future__ import annotations

from torch import Tensor, nn

from hidiffusion.dimr.config import StageConfig
from hidiffusion.dimr.norms import TimeDependentRMSNorm
from hidiffusion.upstream import Attention, FeedForward


class TransformerBlock(nn.Module):
    """Self-attention and a gated MLP, each after time-dependent RMS normalisation."""

    def __init__(self, stage: StageConfig) -> None:
        super().__init__()
        self.norm1 = TimeDependentRMSNorm(stage.dim)
        self.attn1 = Attention(
            stage.dim,
            heads=stage.num_attention_heads,
            dim_head=stage.dim // stage.num_attention_heads,
        )
        self.norm2 = TimeDependentRMSNorm(stage.dim)
        self.ff = FeedForward(stage.dim, inner_dim=stage.hidden_dim, activation_fn="geglu")

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Return `[B, N, C]` for tokens `x` of that shape and labels `timestep`, `[B]` or one."""
        x = x + self.attn1(self.norm1(x, timestep))
        result: Tensor = x + self.ff(self.norm2(x, timestep))
        return result


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, which no normalisation precedes, and the same gated MLP."""

    def __init__(self, stage: StageConfig) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(
            stage.dim,
            stage.dim,
            stage.kernel_size,
            padding=stage.kernel_size // 2,
            groups=stage.dim,
        )
        self.norm2 = TimeDependentRMSNorm(stage.dim)
        self.ff = FeedForward(stage.dim, inner_dim=stage.hidden_dim, activation_fn="geglu")

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Return `[B, H, W, C]` for a map `x` of that shape and labels `timestep`, `[B]` or one."""
        x = x + self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        result: Tensor = x + self.ff(self.norm2(x, timestep))
        return result
