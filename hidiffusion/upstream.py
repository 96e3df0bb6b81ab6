"""The only file that knows names of diffusers and torch that their documentation omits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch._dynamo
from diffusers.models import attention_dispatch
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
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

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
    "dispatch_attention_fn",
    "guard_hooks",
    "post_hook",
    "pre_hook",
    "run_length",
    "seeds",
    "starts_from_image",
    "unwrap",
]

#: Pipeline method that every Stable Diffusion pipeline calls once, after the timesteps are set and
#: before the first U-Net call, with the generator as its first argument.
RUN_START = "prepare_extra_step_kwargs"

#: Attention [B, tokens, heads, dim] by the backend that is set; the one that attention backends
#: are chosen for.
dispatch_attention_fn: Callable[..., Tensor] = attention_dispatch.dispatch_attention_fn

#: Torch counts the ids of hooks from 0 up.
_SHARED_ID = -17


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


def seeds(generator: object) -> tuple[int, ...] | None:
    """Return the seeds of the generators given to a pipeline, or None where there are none."""
    generators = generator if isinstance(generator, list | tuple) else [generator]
    found = tuple(each.initial_seed() for each in generators if isinstance(each, torch.Generator))
    return found or None


def pre_hook(module: nn.Module, hook: Callable[..., Any]) -> RemovableHandle:
    """Register a forward pre-hook with keyword arguments; see `_with_shared_id`."""
    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    return _with_shared_id(handle, module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs)


def post_hook(module: nn.Module, hook: Callable[..., Any]) -> RemovableHandle:
    """Register a forward hook; see `_with_shared_id`."""
    return _with_shared_id(module.register_forward_hook(hook), module._forward_hooks)


def _with_shared_id(handle: RemovableHandle, *tables: dict[int, Any]) -> RemovableHandle:
    """Register a hook under an id that is the same in every module.

    torch.compile guards the ids of a module's hooks, and torch gives each hook another one: blocks
    that are compiled one by one would share no graph.
    """
    for table in tables:
        table[_SHARED_ID] = table.pop(handle.id)
    handle.id = _SHARED_ID
    return handle


def controlnets(pipeline: object) -> Iterator[nn.Module]:
    """Yield the ControlNets of a pipeline, each of a multiple one."""
    control = getattr(pipeline, "controlnet", None)
    if isinstance(control, nn.Module):
        for module in unwrap(control).modules():
            if isinstance(module, ControlNetModel | ControlNetUnionModel):
                yield module
