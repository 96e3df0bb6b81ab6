"""What a DiMR consists of: its stages, from the lowest resolution to the highest."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hidiffusion.errors import InvalidConfigError

TRANSFORMER = "TransformerBlock"
CONVNEXT = "ConvNeXtBlock"


@dataclass(frozen=True)
class StageConfig:
    """One resolution. Names and meanings are those of the authors' configuration files.

    Attributes:
        block_type: what the blocks are.
        dim: channels.
        hidden_dim: channels inside the gated MLP.
        num_blocks: blocks; an even number gets one more, since there is one in the middle.
        max_height: rows of the feature map at the trained size; larger ones are refused.
        max_width: its columns.
        image_input_ratio: how often smaller, a side, the latents are made by averaging.
        input_feature_ratio: patch size: stride of the first convolution.
        num_attention_heads: of a Transformer stage.
        kernel_size: of a ConvNeXt stage's depthwise convolutions; odd.
        final_kernel_size: of the convolution that gives the noise; odd.
    """

    block_type: Literal["TransformerBlock", "ConvNeXtBlock"]
    dim: int
    hidden_dim: int
    num_blocks: int
    max_height: int
    max_width: int
    image_input_ratio: int = 1
    input_feature_ratio: int = 1
    num_attention_heads: int = 1
    kernel_size: int = 7
    final_kernel_size: int = 3

    def __post_init__(self) -> None:
        if self.block_type not in (TRANSFORMER, CONVNEXT):
            raise InvalidConfigError(
                f"block_type is {self.block_type!r}; it must be {TRANSFORMER!r} or {CONVNEXT!r}"
            )
        for field in dataclasses.fields(self)[1:]:
            if getattr(self, field.name) < 1:
                raise InvalidConfigError(
                    f"{field.name} is {getattr(self, field.name)}; it must be at least 1"
                )
        if self.dim % self.num_attention_heads:
            raise InvalidConfigError(
                f"dim {self.dim} cannot be divided among {self.num_attention_heads} heads"
            )

    @property
    def half(self) -> int:
        """Blocks on each side of the middle one."""
        return self.num_blocks // 2

    @property
    def reduction(self) -> int:
        """Latents a side that make one position of this stage's feature map."""
        return self.image_input_ratio * self.input_feature_ratio


def read_stages(stages: Sequence[Mapping[str, Any]]) -> tuple[StageConfig, ...]:
    """Check the stages of a network against each other.

    Args:
        stages: keyword arguments of `StageConfig`, lowest resolution first.

    Raises:
        InvalidConfigError: a field is unknown or out of range; the first stage is no Transformer or
            a later one is; or the feature map of a stage is no multiple of the one before it.
    """
    known = {field.name for field in dataclasses.fields(StageConfig)}
    for stage in stages:
        if unknown := sorted(set(stage) - known):
            raise InvalidConfigError(
                f"a stage has unknown entries {unknown}; known: {sorted(known)}"
            )
    read = tuple(StageConfig(**stage) for stage in stages)
    kinds = [stage.block_type for stage in read]
    if kinds != [TRANSFORMER, *[CONVNEXT] * (len(kinds) - 1)]:
        raise InvalidConfigError(
            f"the stages are {kinds}; the first is a {TRANSFORMER} stage, which takes the class, "
            f"and all others are {CONVNEXT} stages"
        )
    for low, high in itertools.pairwise(read):
        ratio = high.max_height // low.max_height
        if (low.max_height * ratio, low.max_width * ratio) != (high.max_height, high.max_width):
            raise InvalidConfigError(
                f"a stage of {high.max_height}x{high.max_width} cannot follow one of "
                f"{low.max_height}x{low.max_width}: it must be a whole number of times larger"
            )
    return read
