"""Latents as feature maps: what pipelines pack into tokens, and back, bit for bit.

Filters, previews and guidance need latents as [B, C, h, w]. A box over packed tokens is no box over
latents, since four latents of a square lie in the channels of one token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hidiffusion.errors import InvalidConfigError
from hidiffusion.transformer.families import Family, family_of, find_transformer, is_transformer


@dataclass(frozen=True)
class Layout:
    """How a pipeline holds the latents of one picture.

    Attributes:
        kind: `Family.latents`.
        rows: tokens along the height.
        columns: tokens along the width.
    """

    kind: str
    rows: int
    columns: int

    def unpack(self, latents: Tensor) -> Tensor:
        """Return latents as they stand at `scheduler.step` as [B, C, h, w]."""
        if self.kind == "plain" or latents.dim() == 4:
            return latents
        grid = torch.unflatten(
            latents, 1, (self.rows, self.columns)
        )  # [B, rows, columns, channels]
        if self.kind == "patches":
            return grid.permute(0, 3, 1, 2)
        squares = torch.unflatten(grid, 3, (-1, 2, 2))  # [B, rows, columns, C, 2, 2]
        return squares.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def pack(self, latents: Tensor) -> Tensor:
        """Undo `unpack`."""
        if self.kind == "plain":
            return latents
        if self.kind == "patches":
            return latents.flatten(2).transpose(1, 2)
        squares = torch.unflatten(torch.unflatten(latents, 3, (self.columns, 2)), 2, (self.rows, 2))
        return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def given(self, latents: Tensor) -> Tensor:
        """Return [B, C, h, w] as pipelines take `latents=`: Flux.2's packs them itself."""
        return latents if self.kind == "patches" else self.pack(latents)

    def adjusting(self, adjust: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Return a change of [B, C, h, w] as one of what stands at `scheduler.step`."""
        if self.kind == "plain":
            return adjust

        def packed(x0: Tensor, *rest: Any) -> Tensor:
            latents = self.unpack(x0)
            changed = adjust(latents, *rest)
            # What is left alone is to be the very tensor, so that the step is left alone.
            return x0 if changed is latents else self.pack(changed)

        return packed

    def enlarged(self, latents: Tensor) -> Tensor:
        """Return [B, C, h, w] of another size at this one's, by bicubic interpolation.

        The channels of patches are four latents each, which are interpolated among each other.
        """
        if self.kind == "patches":
            fine = functional.pixel_shuffle(latents, 2)
            return functional.pixel_unshuffle(_bicubic(fine, 2 * self.rows, 2 * self.columns), 2)
        return _bicubic(latents, 2 * self.rows, 2 * self.columns)


def _bicubic(latents: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(latents, (height, width), mode="bicubic", align_corners=False)


def layout_like(pipe: Any, latents: Tensor) -> Layout:
    """Return how a pipeline holds latents that are [B, C, h, w]; of U-Nets that is so already."""
    if not is_transformer(pipe):
        return Layout("plain", latents.shape[-2], latents.shape[-1])
    family = family_of(find_transformer(pipe))
    return Layout(
        family.latents, latents.shape[-2] // family.patch, latents.shape[-1] // family.patch
    )


def token_pixels(pipe: Any) -> int:
    """Return the pixels along the side of one token; pictures are multiples of it."""
    return int(pipe.vae_scale_factor) * 2


def layout_of(pipe: Any, width: int, height: int) -> Layout:
    """Return how a pipeline of a known family holds the latents of a picture.

    Args:
        pipe: a diffusers pipeline.
        width: of the picture in pixels.
        height: of the picture in pixels.

    Raises:
        InvalidConfigError: a side is no multiple of a token.
    """
    side = token_pixels(pipe)
    if width % side or height % side:
        family: Family = family_of(find_transformer(pipe))
        raise InvalidConfigError(
            f"{width}x{height} is no picture of whole tokens; sides of {family.name} are multiples "
            f"of {side} pixels"
        )
    kind = family_of(find_transformer(pipe)).latents
    return Layout(kind, height // side, width // side)
