"""The work of one call of a transformer, counted on meta tensors: without weights or a device."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import diffusers
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hidiffusion.transformer.config import TransformerConfig
from hidiffusion.transformer.families import family_of, native_tokens
from hidiffusion.transformer.patch import apply, remove


class _OneCall:
    """A scheduler in the first of its calls."""

    timesteps = torch.zeros(1)
    begin_index = step_index = None
    num_inference_steps = 1


def flop_of_call(transformer: Any, rows: int, columns: int, text: int, grid: int | str) -> int:
    """Count the FLOPs of one call, batch 1.

    Args:
        transformer: of a known family, on any device, the meta device included.
        rows: tokens along the height.
        columns: tokens along the width.
        text: tokens of the text.
        grid: `TransformerConfig.window_grid`; 1 is full attention.

    Returns:
        Multiplications and additions in matrix products and attention.
    """
    config = json.dumps(dict(transformer.config), default=list, sort_keys=True)
    native = native_tokens(transformer)
    return _count(type(transformer).__name__, config, (rows, columns), text, (grid, native))


@lru_cache(maxsize=256)
def _count(
    name: str, config: str, size: tuple[int, int], text: int, windows: tuple[int | str, int]
) -> int:
    model = _model(name, config)
    grid: Any = windows[0]
    asked = TransformerConfig(
        window_grid=grid, full_share=0, native_tokens=windows[1], time_shift="pipeline"
    )
    apply(model, asked, scheduler=_OneCall())
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(**_arguments(model, *size, text))
    finally:
        remove(model)
    return int(counter.get_total_flops())


@lru_cache(maxsize=2)
def _model(name: str, config: str) -> Any:
    settings = {key: value for key, value in json.loads(config).items() if key[0] != "_"}
    settings.pop("native_tokens", None)
    with torch.device("meta"):
        return getattr(diffusers, name).from_config(settings)


def _meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def _arguments(model: Any, rows: int, columns: int, text: int) -> dict[str, Any]:
    """Return what one call needs; coordinates are read, so they are no meta tensors."""
    config, kind = model.config, family_of(model).positions
    if kind == "tables":
        patch = config.all_patch_size[0]
        picture = _meta(config.in_channels, 1, rows * patch, columns * patch)
        return {"x": [picture], "t": _meta(1), "cap_feats": [_meta(text, config.cap_feat_dim)]}
    arguments: dict[str, Any] = {
        "hidden_states": _meta(1, rows * columns, config.in_channels),
        "encoder_hidden_states": _meta(1, text, config.joint_attention_dim),
        "timestep": _meta(1),
    }
    if kind == "learned":
        sides = (rows * config.patch_size, columns * config.patch_size)
        arguments["hidden_states"] = _meta(1, config.in_channels, *sides)
    elif kind == "shapes":
        arguments["img_shapes"] = [[(1, rows, columns)]]
    else:
        axes = len(config.axes_dims_rope)
        ids = torch.zeros(rows, columns, axes)
        ids[..., 1], ids[..., 2] = torch.arange(rows)[:, None], torch.arange(columns)
        arguments |= {"img_ids": ids.flatten(0, 1), "txt_ids": torch.zeros(text, axes)}
    if config.get("pooled_projection_dim"):
        arguments["pooled_projections"] = _meta(1, config.pooled_projection_dim)
    if config.get("guidance_embeds"):
        arguments["guidance"] = _meta(1)
    return arguments
