"""The FLOPs of a generation's passes, counted exactly on meta tensors: without weights or a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.network.transformer_cost import flop_of_call
from hidiffusion.clock import Position
from hidiffusion.methods.generation.denoisers import MECHANISMS
from hidiffusion.methods.generation.passes import Pass
from hidiffusion.transformer.families import find_transformer, is_transformer
from hidiffusion.transformer.latents import token_pixels
from hidiffusion.unet.config import HiDiffusionConfig
from hidiffusion.unet.families import resolve
from hidiffusion.unet.patch import apply_hidiffusion, remove_hidiffusion
from hidiffusion.unet.schedule import DIRECT, Size, Stage, stage
from hidiffusion.unet.sites import find_unet, structure
from hidiffusion.upstream import UNet2DConditionModel, unwrap


def flop(pipe: Any, passes: Iterable[Pass], *, text: int = 512) -> int:
    """Count the FLOPs of the model in passes, batch 1; guidance doubles them.

    Args:
        pipe: a diffusers pipeline with a U-Net or a transformer of a known family, on any device,
            the meta device included.
        passes: as `Method.passes` gives them.
        text: tokens of the text, for a transformer.

    Returns:
        Multiplications and additions in convolutions, matrix products and attention.
    """
    if is_transformer(pipe):
        return sum(_transformer_flop(pipe, each, text) for each in passes)
    unet: Any = unwrap(find_unet(pipe))
    config = json.dumps(dict(unet.config), default=list, sort_keys=True)
    native = Size(unet.config.sample_size, unet.config.sample_size)
    factor = int(pipe.vae_scale_factor)
    total = 0
    for each in passes:
        size = Size(each.height // factor, each.width // factor)
        first: dict[Stage, int] = {}
        for call in range(each.computed):
            acts = _stage(unet, size, each.draws, call, each.calls)
            total += _count(config, size, each.draws, first.setdefault(acts, call), each.calls)
        total += each.pooled_calls * _count(config, native, "direct", 0, 1)
    return total


def _transformer_flop(pipe: Any, each: Pass, text: int) -> int:
    """Count a pass whose windows, if any, have native size."""
    side = token_pixels(pipe)
    size = (each.height // side, each.width // side, text)
    full = each.computed
    if each.draws == "token-windows":
        full = min(each.full_calls, each.computed)
    model = find_transformer(pipe)
    total = full * flop_of_call(model, *size, 1) if full else 0
    if full < each.computed:
        total += (each.computed - full) * flop_of_call(model, *size, "native")
    return total


def _stage(unet: Any, size: Size, draws: str, call: int, calls: int) -> Stage:
    """Tell what acts on a call, so that equal work is counted once."""
    if draws == "direct":
        return DIRECT
    return stage(resolve(HiDiffusionConfig(), structure(unet)), size, Position(call, calls))


@lru_cache(maxsize=256)
def _count(config: str, size: Size, draws: str, call: int, calls: int) -> int:
    unet = _meta_unet(config)
    table = tuple(float(calls - index) for index in range(calls))
    if draws != "direct":
        apply_hidiffusion(unet, **MECHANISMS[draws], config=HiDiffusionConfig(timesteps=table))
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            unet(timestep=torch.tensor(table[call]), **_arguments(unet, size))
    finally:
        remove_hidiffusion(unet)
    return int(counter.get_total_flops())


@lru_cache(maxsize=4)
def _meta_unet(config: str) -> Any:
    """Build a U-Net without storage."""
    settings = {key: value for key, value in json.loads(config).items() if key[0] != "_"}
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(settings)


def _arguments(unet: Any, size: Size) -> dict[str, Any]:
    """Return the tensors that one call needs, on the meta device."""
    config = unet.config
    meta: dict[str, Any] = {"device": "meta"}
    arguments: dict[str, Any] = {
        "sample": torch.empty(1, config.in_channels, *size, **meta),
        "encoder_hidden_states": torch.empty(1, 77, config.cross_attention_dim, **meta),
    }
    if config.addition_embed_type == "text_time":
        # How the embedding is divided between text and sizes does not change the work.
        sizes = 6 * config.addition_time_embed_dim
        pooled = config.projection_class_embeddings_input_dim - sizes
        arguments["added_cond_kwargs"] = {
            "text_embeds": torch.empty(1, pooled, **meta),
            "time_ids": torch.empty(1, 6, **meta),
        }
    if config.time_cond_proj_dim is not None:
        arguments["timestep_cond"] = torch.empty(1, config.time_cond_proj_dim, **meta)
    return arguments
