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
from torch import Tensor, nn
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

#: Flux.1, and Z-Image and Chroma, which share its autoencoder: the numbers of ComfyUI's
#: `latent_formats.Flux`, 2025.
FLUX_PREVIEW = PreviewFactors(
    weights=(
        (-0.0346, 0.0244, 0.0681),
        (0.0034, 0.0210, 0.0687),
        (0.0275, -0.0668, -0.0433),
        (-0.0174, 0.0160, 0.0617),
        (0.0859, 0.0721, 0.0329),
        (0.0004, 0.0383, 0.0115),
        (0.0405, 0.0861, 0.0915),
        (-0.0236, -0.0185, -0.0259),
        (-0.0245, 0.0250, 0.1180),
        (0.1008, 0.0755, -0.0421),
        (-0.0515, 0.0201, 0.0011),
        (0.0428, -0.0012, -0.0036),
        (0.0817, 0.0765, 0.0749),
        (-0.1264, -0.0522, -0.1103),
        (-0.0280, -0.0881, -0.0499),
        (-0.1262, -0.0982, -0.0778),
    ),
    bias=(-0.0329, -0.0718, -0.0851),
)

#: Stable Diffusion 3: the numbers of ComfyUI's `latent_formats.SD3`, 2025.
SD3_PREVIEW = PreviewFactors(
    weights=(
        (-0.0922, -0.0175, 0.0749),
        (0.0311, 0.0633, 0.0954),
        (0.1994, 0.0927, 0.0458),
        (0.0856, 0.0339, 0.0902),
        (0.0587, 0.0272, -0.0496),
        (-0.0006, 0.1104, 0.0309),
        (0.0978, 0.0306, 0.0427),
        (-0.0042, 0.1038, 0.1358),
        (-0.0194, 0.0020, 0.0669),
        (-0.0488, 0.0130, -0.0268),
        (0.0922, 0.0988, 0.0951),
        (-0.0278, 0.0524, -0.0542),
        (0.0332, 0.0456, 0.0895),
        (-0.0069, -0.0030, -0.0810),
        (-0.0596, -0.0465, -0.0293),
        (-0.1448, -0.1463, -0.1189),
    ),
    bias=(0.2394, 0.2135, 0.1925),
)

#: Qwen-Image, whose autoencoder's latents are those of Wan 2.1: the numbers of ComfyUI's
#: `latent_formats.Wan21`, 2025.
QWEN_PREVIEW = PreviewFactors(
    weights=(
        (-0.1299, -0.1692, 0.2932),
        (0.0671, 0.0406, 0.0442),
        (0.3568, 0.2548, 0.1747),
        (0.0372, 0.2344, 0.1420),
        (0.0313, 0.0189, -0.0328),
        (0.0296, -0.0956, -0.0665),
        (-0.3477, -0.4059, -0.2925),
        (0.0166, 0.1902, 0.1975),
        (-0.0412, 0.0267, -0.1364),
        (-0.1293, 0.0740, 0.1636),
        (0.0680, 0.3019, 0.1128),
        (0.0032, 0.0581, 0.0639),
        (-0.1251, 0.0927, 0.1699),
        (0.0060, -0.0633, 0.0005),
        (0.3477, 0.2275, 0.2950),
        (0.1984, 0.0913, 0.1861),
    ),
    bias=(-0.1835, -0.0868, -0.3360),
)

#: The published latent spaces, told apart by the scaling factor that each was trained with.
_KNOWN = {
    (4, 0.18215): SD15_PREVIEW,
    (4, 0.13025): SDXL_PREVIEW,
    (16, 0.3611): FLUX_PREVIEW,
    (16, 1.5305): SD3_PREVIEW,
}


def known_preview(vae: AutoencoderKL) -> PreviewFactors | None:
    """Give the factors of a published family's latent space, or None for any other."""
    config = configuration(vae)
    if config.get("z_dim") == 16:
        return QWEN_PREVIEW
    return _KNOWN.get((config.get("latent_channels"), config.get("scaling_factor")))


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
    plain = unscale(vae, scaled)
    (picture,) = decode_tiles(vae, plain, tile=traits.factor * max(plain.shape[2:]))
    targets = functional.adaptive_avg_pool2d(picture.pixels, (scaled.shape[2], scaled.shape[3]))
    inputs = functional.pad(scaled.float(), (0, 0, 0, 0, 0, 1), value=1.0)
    solution = torch.linalg.lstsq(_table(inputs), _table(targets)).solution.tolist()
    rows = tuple(_triple(row) for row in solution)
    return PreviewFactors(rows[:-1], rows[-1])


def scale(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Scale what `vae.encode` gives to what a pipeline's steps hold.

    Of Flux.2 that is [B, 4 C, h / 2, w / 2], the channels of squares of four, normalised.
    """
    normalised = _normalisation(vae, latents)
    if normalised is not None:
        mean, std = normalised
        return (functional.pixel_unshuffle(latents, 2) - mean) / std
    factor, mean = _scaling(vae, latents)
    return (latents - mean) * factor


def unscale(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Undo `scale`: give what `vae.decode` and `decode_tiles` take."""
    normalised = _normalisation(vae, latents)
    if normalised is not None:
        mean, std = normalised
        return functional.pixel_shuffle(latents * std + mean, 2)
    factor, mean = _scaling(vae, latents)
    return latents / factor + mean


def _normalisation(vae: AutoencoderKL, latents: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return mean and deviation of each channel of Flux.2's squares; None for others."""
    statistics = getattr(vae, "bn", None)
    if not isinstance(statistics, nn.BatchNorm2d):
        return None
    mean, variance = (
        each.to(latents)[:, None, None]
        for each in (statistics.running_mean, statistics.running_var)
        if each is not None
    )
    return mean, (variance + configuration(vae).batch_norm_eps).sqrt()


def _scaling(vae: AutoencoderKL, latents: Tensor) -> tuple[Tensor, Tensor]:
    config = configuration(vae)
    if config.get("latents_mean") is None or config.get("latents_std") is None:
        pair = (config.scaling_factor, config.get("shift_factor") or 0.0)
        return latents.new_tensor(pair[0]), latents.new_tensor(pair[1])
    std, mean = (
        latents.new_tensor(v)[:, None, None] for v in (config.latents_std, config.latents_mean)
    )
    return config.get("scaling_factor", 1.0) / std, mean


def _table(values: Tensor) -> Tensor:
    """`[B, C, h, w]` to `[B * h * w, C]`."""
    return values.movedim(1, -1).reshape(-1, values.shape[1]).cpu()


def _triple(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 5) for value in values)
    return red, green, blue
