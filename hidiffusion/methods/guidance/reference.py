"""The native picture, or what was predicted of it, as what a larger pass is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hidiffusion.methods.bands import SPLITTERS, splitter_of
from hidiffusion.methods.generation.codec import upsampled
from hidiffusion.methods.generation.generation import Generation
from hidiffusion.methods.x0 import LowBandGuide, Trajectory, Weight, adjusted_x0
from hidiffusion.options import option
from hidiffusion.transformer.families import is_transformer


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """Settings of the low band that is held to a native picture.

    Attributes:
        splitter: what the low band is; it ends at the highest frequency of the native picture.
        reference: the finished native picture, or what was predicted of it at the same time.
        space: whether the native result is enlarged as a picture or as latents.
    """

    splitter: str = option("butterworth", "What the low band is.", words=SPLITTERS)
    reference: str = option(
        "picture",
        "The finished native picture, or its trajectory.",
        words=("picture", "trajectory"),
    )
    space: str = option(
        "pixels", "Where the native result is enlarged.", words=("pixels", "latents")
    )


def draw_native(generation: Generation, config: ReferenceConfig) -> Any:
    """Run the first pass, and keep what it predicts where that is the reference."""
    if config.reference == "picture":
        return generation.draw()
    path = Trajectory(lambda latents: enlarged(generation, config.space, latents))
    generation.trajectory = path
    record = generation.layout.adjusting(path.record)
    return generation.draw(lambda pipe: adjusted_x0(pipe.scheduler, record))


def enlarged(generation: Generation, space: str, latents: Tensor) -> Tensor:
    """Bring latents [B, C, h, w] to the size of the pass, as a picture ("pixels") or as they are.

    Args:
        generation: whose pass it is.
        space: "pixels" or "latents".
        latents: clean.
    """
    if space == "pixels":
        codec, now = generation.codec, generation.now
        picture = upsampled(codec.picture(latents), now.height, now.width)
        return codec.latents(picture).to(latents)
    if is_transformer(generation.pipe):
        return generation.layout.enlarged(latents)
    return upsampled(latents, *generation.latent_size)


def low_band(
    generation: Generation, splitter: str, native: Tensor, large: Tensor, weight: Weight
) -> LowBandGuide:
    """Return what holds the low band of the pass to the reference.

    Args:
        generation: whose pass it is.
        splitter: a name of `SPLITTERS`.
        native: latents [B, C, h, w] that the first pass left.
        large: the same, enlarged.
        weight: how much the band counts, by moment.
    """
    path = generation.trajectory
    split = splitter_of(splitter, _size(large), _size(native))
    return LowBandGuide(large if path is None else path.at, split, weight)


def _size(latents: Tensor) -> tuple[int, int]:
    return latents.shape[-2], latents.shape[-1]
