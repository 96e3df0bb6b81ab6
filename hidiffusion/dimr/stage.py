"""One resolution of the network (section 3.2 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hidiffusion.dimr.blocks import ConvNeXtBlock, TransformerBlock
from hidiffusion.dimr.config import TRANSFORMER, StageConfig
from hidiffusion.dimr.norms import TimeDependentLayerNorm


class StageOutput(NamedTuple):
    """What a stage gives.

    Attributes:
        sample: noise at the stage's resolution, `[B, c, h, w]`.
        features: the blocks' input and results, in the order of their computation, each
            `[B, h, w, C]`: the next stage's cascade takes them all.
        normed: what the last convolution saw, `[B, h, w, C]`.
    """

    sample: Tensor
    features: tuple[Tensor, ...]
    normed: Tensor


class Stage(nn.Module):
    """A U-shaped stack of blocks on one feature map, with the cascade from the stage below.

    Args:
        channels: of the latents.
        stage: sizes.
        below: the stage of lower resolution; None for the first, which takes the class instead.
        num_classes: entries of the class table of the first stage.
    """

    def __init__(
        self, channels: int, stage: StageConfig, below: StageConfig | None, num_classes: int
    ) -> None:
        super().__init__()
        self.config = stage
        dim, patch = stage.dim, stage.input_feature_ratio
        self.proj_in = nn.Conv2d(channels, dim, patch, stride=patch)
        self.pos_embed = nn.Embedding(stage.max_height * stage.max_width, dim)
        if below is None:
            self.class_embed = nn.Embedding(num_classes, dim)
        else:
            self.ratio = stage.max_height // below.max_height
            width = below.dim * (2 * below.half + 2)
            self.lowres_norm = TimeDependentLayerNorm(width)
            self.lowres_proj = nn.Linear(width, dim * self.ratio**2)
            self.lowres_norm_out = TimeDependentLayerNorm(dim)
        block = TransformerBlock if stage.block_type == TRANSFORMER else ConvNeXtBlock
        self.blocks = nn.ModuleList(block(stage) for _ in range(2 * stage.half + 1))
        self.skip_proj = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(stage.half))
        self.norm_out = TimeDependentLayerNorm(dim)
        kernel = stage.final_kernel_size
        self.proj_out = nn.Conv2d(dim, channels, kernel, padding=kernel // 2)

    def embed(self, latents: Tensor) -> Tensor:
        """Return the feature map `[B, h, w, C]` of latents `[B, c, H, W]`, positions added.

        A smaller map takes the top left part of the table.
        """
        if self.config.image_input_ratio > 1:
            latents = F.avg_pool2d(latents, self.config.image_input_ratio)
        x = self.proj_in(latents).permute(0, 2, 3, 1)
        table = self.pos_embed.weight.view(self.config.max_height, self.config.max_width, -1)
        result: Tensor = x + table[: x.shape[1], : x.shape[2]]
        return result

    def cascade(self, features: Sequence[Tensor], timestep: Tensor) -> Tensor:
        """Return `[B, h q, w q, C]` of `features` of the stage below, q times smaller a side."""
        x = self.lowres_proj(self.lowres_norm(torch.cat(tuple(features), dim=-1), timestep))
        # The channels of a position are (row in q, column in q, C).
        x = x.unflatten(-1, (self.ratio, self.ratio, self.config.dim)).permute(0, 1, 3, 2, 4, 5)
        result: Tensor = self.lowres_norm_out(x.flatten(3, 4).flatten(1, 2), timestep)
        return result

    def forward(
        self, latents: Tensor, timestep: Tensor, condition: Tensor | Sequence[Tensor]
    ) -> StageOutput:
        """Refine.

        Args:
            latents: the network's input, `[B, c, H, W]`.
            timestep: labels n in (0, 1000], floating point, `[B]` or a single one.
            condition: class numbers `[B]` in the first stage, else the stage below's `features`.
        """
        x = self.embed(latents)
        height, width = x.shape[1:3]
        if isinstance(condition, Tensor):
            token = self.class_embed(condition).unsqueeze(1)
            states = self._blocks(torch.cat([token, x.flatten(1, 2)], dim=1), timestep)
            features = [
                state[:, 1:].reshape(-1, height, width, state.shape[-1]) for state in states
            ]
        else:
            features = self._blocks(x + self.cascade(condition, timestep), timestep)
        normed = self.norm_out(features[-1], timestep)
        return StageOutput(self.proj_out(normed.permute(0, 3, 1, 2)), tuple(features), normed)

    def _blocks(self, x: Tensor, timestep: Tensor) -> list[Tensor]:
        """Return the input and every block's result; the second half takes the first's by skips."""
        states = [x]
        half = self.config.half
        for number, block in enumerate(self.blocks):
            if number > half:
                # Block half + 1 + k takes the result of block half - 1 - k.
                skipped = states[2 * half - number + 1]
                x = self.skip_proj[number - half - 1](torch.cat([x, skipped], dim=-1))
            x = block(x, timestep)
            states.append(x)
        return states
