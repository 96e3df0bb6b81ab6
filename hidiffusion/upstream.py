"""The only file that knows names of diffusers and torch that their documentation omits."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch._dynamo
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.controlnets.controlnet import ControlNetModel, ControlNetOutput
from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel
from diffusers.models.downsampling import Downsample2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import (
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    UpBlock2D,
)
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch import nn

__all__ = [
    "RUN_START",
    "Attention",
    "BasicTransformerBlock",
    "ControlNetModel",
    "ControlNetOutput",
    "ControlNetUnionModel",
    "CrossAttnDownBlock2D",
    "CrossAttnUpBlock2D",
    "DownBlock2D",
    "Downsample2D",
    "FeedForward",
    "Transformer2DModel",
    "UNet2DConditionModel",
    "UpBlock2D",
    "Upsample2D",
    "begin_index",
    "controlnets",
    "guard_hooks",
    "run_length",
    "starts_from_image",
    "table_index",
    "unwrap",
]

#: Pipeline method that every Stable Diffusion pipeline calls once, after the timesteps are set and
#: before the first U-Net call, with the generator as its first argument.
RUN_START = "prepare_extra_step_kwargs"


def guard_hooks() -> None:
    """Let compiled graphs look at the hooks of their modules before they are used again.

    torch.compile leaves hooks out of its guards unless told otherwise
    (`torch._dynamo.config.skip_nnmodule_hook_guards`): a U-Net compiled without the method would
    go on without it once applied, and with it once removed. Graphs that were made before this was
    first called do not look, so they are dropped.
    """
    config = torch._dynamo.config
    if config.skip_nnmodule_hook_guards:
        config.skip_nnmodule_hook_guards = False
        torch._dynamo.reset()


def unwrap(module: nn.Module) -> nn.Module:
    """Return the module inside `torch.compile`'s wrapper, or the module itself."""
    return getattr(module, "_orig_mod", module)


def run_length(pipeline: object) -> int | None:
    """Return the number of U-Net steps of the running call, as far as the pipeline tells."""
    length = getattr(pipeline, "_num_timesteps", None)
    return length if isinstance(length, int) else None


def starts_from_image(pipeline: object) -> bool:
    """Tell whether a pipeline starts from a picture: such a one cuts the table by its strength."""
    return hasattr(pipeline, "get_timesteps")


def begin_index(scheduler: object) -> int | None:
    """Return the entry of the table at which the run begins, if the scheduler keeps it."""
    return getattr(scheduler, "begin_index", None)


def table_index(timestep: torch.Tensor, table: torch.Tensor) -> int | None:
    """Return the entry of `table` that `timestep` is a view of, without waiting for the device."""
    if timestep.numel() != 1 or table.dim() != 1 or not table.is_contiguous():
        return None
    if timestep.untyped_storage().data_ptr() != table.untyped_storage().data_ptr():
        return None
    index = int(timestep.storage_offset() - table.storage_offset())
    return index if 0 <= index < len(table) else None


def controlnets(pipeline: object) -> Iterator[nn.Module]:
    """Yield the ControlNets of a pipeline, each of a multiple one."""
    control = getattr(pipeline, "controlnet", None)
    if isinstance(control, nn.Module):
        for module in unwrap(control).modules():
            if isinstance(module, ControlNetModel | ControlNetUnionModel):
                yield module
