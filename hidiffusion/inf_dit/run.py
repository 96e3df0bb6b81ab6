"""One upscaling: the pictures that the network is shown, and its evaluations chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hidiffusion.inf_dit.chunks import Chunk, Evaluation
from hidiffusion.inf_dit.pictures import pad_to_multiple, resize
from hidiffusion.inf_dit.sampler import HeunSampler, HeunState
from hidiffusion.inf_dit.transformer import InfDiTTransformer

#: Factors of the released model; at 2 it is shown a picture half as large as the one given.
SCALES = (2, 4)


@dataclass(frozen=True)
class Prepared:
    """The pictures that the network is shown, padded to whole blocks.

    Attributes:
        lr: `[1, 3, h, w]` on [-1, 1].
        lr_up: `[1, 3, H, W]`, the large picture's size with its padding.
        height: of the result in pixels.
        width: likewise.
    """

    lr: Tensor
    lr_up: Tensor
    height: int
    width: int


def prepare(picture: Tensor, scale: int, transformer: InfDiTTransformer) -> Prepared:
    """Pad a picture, enlarge it, and shrink it where `scale` is less than the network's own.

    Args:
        picture: `[1, 3, h, w]` on [-1, 1].
        scale: 2 or 4.
        transformer: gives block size and scale.

    Raises:
        ValueError: the scale is neither, or the picture has another shape.
    """
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; it must be one of {SCALES}")
    if picture.ndim != 4 or picture.shape[:2] != (1, 3):
        raise ValueError(f"the picture has shape {tuple(picture.shape)!r}; pass [1, 3, h, w]")
    height, width = picture.shape[-2:]
    padded = pad_to_multiple(picture, transformer.config.block_size // scale)
    large = tuple(scale * side for side in padded.shape[-2:])
    small = tuple(side // transformer.config.sr_scale for side in large)
    lr = padded if small == tuple(padded.shape[-2:]) else resize(padded, *small)
    return Prepared(lr, resize(padded, *large), height * scale, width * scale)


class Upscaling:
    """A run from a state to its end.

    Args:
        transformer: the network.
        prepared: what it is shown.
        sampler: its steps.
        state: where it stands; changed in place. On its device, with `prepared.lr_up`.
        vector: of the picture, or `None`.
        chunk_blocks: blocks along a chunk's side.
        rope_wrap: see `InfDiTTransformer.begin`.
        device: where the network computes.
    """

    def __init__(
        self,
        transformer: InfDiTTransformer,
        prepared: Prepared,
        sampler: HeunSampler,
        state: HeunState,
        *,
        vector: Tensor | None,
        chunk_blocks: int | None,
        rope_wrap: bool,
        device: torch.device,
    ) -> None:
        if state.sample.shape != prepared.lr_up.shape:
            raise ValueError(
                f"the state has shape {tuple(state.sample.shape)!r}, this picture "
                f"{tuple(prepared.lr_up.shape)!r}: it belongs to another run"
            )
        self._transformer, self._prepared, self._sampler = transformer, prepared, sampler
        self.state = state
        self._vector, self._device = vector, device
        self._chunk_blocks, self._rope_wrap = chunk_blocks, rope_wrap
        self._lr = prepared.lr.to(device)
        self._side: int = transformer.config.block_size

    @property
    def evaluations(self) -> int:
        """How often the network sees the picture."""
        return self._sampler.evaluations

    @property
    def chunk_pixels(self) -> int:
        """Pixels along the side of a whole chunk."""
        return self._side * self._begin().scan.side

    @property
    def patch_pixels(self) -> int:
        """Pixels along the side of a token."""
        pixels: int = self._transformer.config.patch_size
        return pixels

    @property
    def chunks(self) -> int:
        """How many chunks the picture has."""
        return self._begin().scan.count

    def evaluate(self) -> Iterator[tuple[Chunk, Tensor]]:
        """Run the next evaluation; yields each chunk with its clean pixels `[1, 3, h, w]`."""
        running = self._begin()

        def denoise(chunk: Chunk, sample: Tensor, sigma: float) -> Tensor:
            clean: Tensor = self._transformer(
                sample.to(self._device),
                torch.full((1,), sigma, device=self._device),
                lr=self._lr,
                lr_up=chunk.crop(self._prepared.lr_up, self._side),
                chunk=chunk,
                evaluation=running,
                image_embeds=self._vector,
            )
            return clean

        yield from self._sampler.evaluate(self.state, iter(running.scan), denoise)

    def place(self, chunk: Chunk) -> tuple[int, int, int, int]:
        """Top, left, height and width of a chunk in the result; height or width may be 0."""
        top, left = chunk.top * self._side, chunk.left * self._side
        height = min(chunk.bottom * self._side, self._prepared.height) - top
        width = min(chunk.right * self._side, self._prepared.width) - left
        return top, left, max(height, 0), max(width, 0)

    def _begin(self) -> Evaluation:
        height, width = self._prepared.lr_up.shape[-2:]
        return self._transformer.begin(height, width, self._chunk_blocks, rope_wrap=self._rope_wrap)


def to_bytes(pixels: Tensor) -> NDArray[np.uint8]:
    """Turn `[1, 3, h, w]` on [-1, 1] into `[h, w, 3]`, rounded as diffusers rounds."""
    values = ((pixels[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    array: NDArray[np.uint8] = values.permute(1, 2, 0).contiguous().cpu().numpy()
    return array
