"""Latents to a small RGB picture by one 1x1 linear map: for previews between steps.

The map multiplies each latent pixel by a `C x 3` matrix. At 4096x4096 that is 12 multiplications
for each of 262,144 latents, against teraflops for a step of the U-Net.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from hidiffusion.decode.autoencoder import configuration, traits_of
from hidiffusion.decode.streaming import decode_tiles


@dataclass(frozen=True)
class PreviewFactors:
    """The linear map from a pipeline's latents to RGB on [-1, 1].

    Attributes:
        weights: one row of three (red, green, blue) for each latent channel.
        bias: red, green and blue of zero latents.
    """

    weights: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float]

    @classmethod
    def load(cls, path: Path) -> PreviewFactors:
        """Read factors that `save` wrote.

        Raises:
            ValueError: if the file does not hold such factors.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            rows = tuple(_triple(row) for row in document["weights"])
            return cls(rows, _triple(document["bias"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{str(path)!r} holds no preview factors; write it again with "
                "`python -m hidiffusion.decode`"
            ) from error

    def save(self, path: Path) -> None:
        """Write the factors as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")


#: Stable Diffusion 1.x: Kevin Turner, "Decoding latents to RGB without upscaling",
#: discuss.huggingface.co/t/23204, 2022.
SD15_PREVIEW = PreviewFactors(
    weights=(
        (0.298, 0.207, 0.208),
        (0.187, 0.286, 0.173),
        (-0.158, 0.189, 0.264),
        (-0.184, -0.271, -0.473),
    ),
    bias=(0.0, 0.0, 0.0),
)

#: SDXL: Timothy Alexis Vass, "Explaining the SDXL latent space", huggingface.co/blog, 2024;
#: published for bytes (weights 60, -60, 25, -70 ...; bias 150, 140, 130), here divided by 127.5.
SDXL_PREVIEW = PreviewFactors(
    weights=(
        (60 / 127.5, 60 / 127.5, 60 / 127.5),
        (-60 / 127.5, -5 / 127.5, 10 / 127.5),
        (25 / 127.5, 15 / 127.5, -5 / 127.5),
        (-70 / 127.5, -50 / 127.5, -35 / 127.5),
    ),
    bias=(150 / 127.5 - 1, 140 / 127.5 - 1, 130 / 127.5 - 1),
)

#: The published latent spaces, told apart by the scaling factor that each was trained with.
_KNOWN = {0.18215: SD15_PREVIEW, 0.13025: SDXL_PREVIEW}


def known_preview(vae: AutoencoderKL) -> PreviewFactors | None:
    """Give the factors of a published family's latent space, or None for any other."""
    config = configuration(vae)
    return _KNOWN.get(config.scaling_factor) if config.latent_channels == 4 else None


def latents_to_rgb(latents: Tensor, factors: PreviewFactors) -> Tensor:
    """Map latents to a picture of the latents' size.

    Args:
        latents: `[B, C, h, w]`, as the pipeline's steps hold them (scaled), any floating dtype.
        factors: the map for this latent space.

    Returns:
        `[B, 3, h, w]`, float32, clamped to [-1, 1], on the device of `latents`.

    Raises:
        ValueError: if `factors` are for another number of channels.
    """
    if latents.shape[1] != len(factors.weights):
        raise ValueError(
            f"latents have {latents.shape[1]!r} channels, the factors {len(factors.weights)!r}; "
            "fit factors for this autoencoder with fit_preview"
        )
    values = latents.float()
    weights = values.new_tensor(factors.weights).T[:, :, None, None]
    return functional.conv2d(values, weights, values.new_tensor(factors.bias)).clamp(-1, 1)


@torch.no_grad()
def fit_preview(vae: AutoencoderKL, latents: Tensor) -> PreviewFactors:
    """Find the map that comes closest, in least squares, to the decoded and shrunk picture.

    Args:
        vae: the autoencoder whose latents shall be previewed.
        latents: `[B, C, h, w]`, scaled, of typical pictures: finished latents of a few
            generations, or encoded pictures. Their dtype is changed to that of `vae`.

    Returns:
        The factors.

    Raises:
        ValueError: if there are too few latent pixels to determine the map.
    """
    traits = traits_of(vae)
    pixels = latents.shape[0] * latents.shape[2] * latents.shape[3]
    if pixels <= latents.shape[1]:
        raise ValueError(f"{pixels!r} latent pixels cannot determine the map; pass whole pictures")
    scaled = latents.to(traits.device, traits.dtype)
    whole = traits.factor * max(latents.shape[2:])
    (picture,) = decode_tiles(vae, unscale(vae, scaled), tile=whole)
    targets = functional.avg_pool2d(picture.pixels, traits.factor)
    inputs = functional.pad(scaled.float(), (0, 0, 0, 0, 0, 1), value=1.0)
    solution = torch.linalg.lstsq(_table(inputs), _table(targets)).solution.tolist()
    rows = tuple(_triple(row) for row in solution)
    return PreviewFactors(rows[:-1], rows[-1])


def scale(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Scale what `vae.encode` gives to what a pipeline's steps hold."""
    factor, mean = _scaling(vae, latents)
    return (latents - mean) * factor


def unscale(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Undo `scale`: give what `vae.decode` and `decode_tiles` take."""
    factor, mean = _scaling(vae, latents)
    return latents / factor + mean


def _scaling(vae: AutoencoderKL, latents: Tensor) -> tuple[Tensor, Tensor]:
    config = configuration(vae)
    if config.latents_mean is None or config.latents_std is None:
        pair = (config.scaling_factor, config.shift_factor or 0.0)
        return latents.new_tensor(pair[0]), latents.new_tensor(pair[1])
    std, mean = (
        latents.new_tensor(v)[:, None, None] for v in (config.latents_std, config.latents_mean)
    )
    return config.scaling_factor / std, mean


def _table(values: Tensor) -> Tensor:
    """`[B, C, h, w]` to `[B * h * w, C]`."""
    return values.movedim(1, -1).reshape(-1, values.shape[1]).cpu()


def _triple(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 5) for value in values)
    return red, green, blue
