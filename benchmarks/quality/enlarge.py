"""Baselines: the native picture, enlarged instead of drawn large."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.quality.measures import Pixels
from benchmarks.quality.plan import LANCZOS, Size, Variant
from hidiffusion.inf_dit import InfDiTUpscalePipeline
from models.train.config import Paths

FILTERED = Variant(LANCZOS)


def enlarge(native: Pixels, size: Size, variant: Variant = FILTERED) -> Pixels:
    """Enlarge a square picture to the shorter side of a size, centred on white.

    Args:
        native: `[side, side, 3]`.
        size: of the result.
        variant: `lanczos`, or `inf-dit` with options of its pipeline's call.

    Returns:
        `[height, width, 3]`.
    """
    side = min(size.width, size.height)
    way = lanczos if variant.method == LANCZOS else inf_dit
    picture = way(Image.fromarray(native), side, **dict(variant.options))
    sheet = Image.new("RGB", (size.width, size.height), "white")
    sheet.paste(picture, ((size.width - side) // 2, (size.height - side) // 2))
    return np.asarray(sheet)


def lanczos(native: Image.Image, side: int) -> Image.Image:
    """Enlarge a square picture by a filter."""
    return native.resize((side, side), Image.Resampling.LANCZOS)


def inf_dit(native: Image.Image, side: int, **options: Any) -> Image.Image:
    """Enlarge a square one by the small Inf-DiT; a filter goes on from twice or four times."""
    scale = 2 if side <= 2 * native.width else 4
    generator = torch.Generator().manual_seed(0)
    (picture,) = _upscaler()(native, scale, generator=generator, **options).images
    return picture if picture.width == side else lanczos(picture, side)


@cache
def _upscaler() -> Callable[..., Any]:
    load: Any = InfDiTUpscalePipeline.from_pretrained
    pipe = load(Paths().upscaler, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    upscaler: Callable[..., Any] = pipe
    return upscaler
