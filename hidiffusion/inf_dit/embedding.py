"""The vector that tells the released model what a picture shows, by OpenCLIP's image tower."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

#: How far from 1 a given vector's length may be.
_UNIT = 1e-2


def check_tower(tower: CLIPVisionModelWithProjection, dim: int | None) -> None:
    """Refuse a tower that is not the one the model was trained beside.

    OpenAI's ViT-L/14 has the same shapes and another space of meanings; what tells them apart is
    its activation, `quick_gelu` instead of `gelu`.

    Raises:
        ValueError: the model takes no vector, one of another width, or the tower is another.
    """
    if dim is None:
        raise ValueError("the model takes no image vector; leave image_encoder out")
    config: Any = tower.config
    if config.projection_dim != dim or config.hidden_act != "gelu":
        raise ValueError(
            f"image_encoder projects to {config.projection_dim!r} numbers with activation "
            f"{config.hidden_act!r}; the model was trained beside OpenCLIP ViT-L-14 "
            f"datacomp_xl_s13b_b90k, which has {dim!r} and 'gelu'"
        )


def check_vector(vector: Tensor, dim: int | None) -> None:
    """Refuse a vector of the wrong width or length.

    Raises:
        ValueError: it is not `[1, dim]`, or not of unit length.
    """
    if dim is None:
        raise ValueError("the model takes no image vector; pass image_embeds=None")
    if tuple(vector.shape) != (1, dim):
        raise ValueError(f"image_embeds has shape {tuple(vector.shape)!r}; expected {(1, dim)!r}")
    length = float(vector.norm())
    if abs(length - 1) > _UNIT:
        raise ValueError(f"image_embeds has length {length:.4g}; it must be normalised to 1")


@torch.no_grad()
def embed(tower: CLIPVisionModelWithProjection, processor: Any, pictures: Tensor) -> Tensor:
    """Describe a picture.

    Args:
        tower: with its projection.
        processor: resizes, crops and normalises as the tower expects.
        pictures: `[1, 3, h, w]` on [-1, 1].

    Returns:
        `[1, D]`, of unit length, float32.
    """
    levels = ((pictures[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    prepared = processor(
        images=levels.numpy(), return_tensors="pt", input_data_format="channels_first"
    )
    pixels = prepared["pixel_values"].to(tower.device, tower.dtype)
    vector: Tensor = tower(pixel_values=pixels).image_embeds.float()
    length: Tensor = vector.norm(dim=-1, keepdim=True)
    return vector / length
