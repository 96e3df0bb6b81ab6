"""The drawn scene on which decoders are compared, a statistics estimate, and the error pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

#: Error pictures show differences this many times enlarged.
GAIN = 4


def scene(size: int) -> Tensor:
    """Draw a smooth sky with a sun, hills and a house: `[1, 3, size, size]` on [-1, 1].

    Even areas show steps of colour best, edges show misplaced halos.
    """
    down = np.linspace(0, 1, size)[:, None, None]
    sky = (1 - down) * np.array([70, 130, 210]) + down * np.array([250, 220, 190])
    image = Image.fromarray(np.broadcast_to(sky, (size, size, 3)).astype(np.uint8))
    draw, unit = ImageDraw.Draw(image), size / 16
    draw.ellipse(_box(11, 2, 14, 5, unit), fill=(255, 214, 70))
    draw.ellipse(_box(-4, 10, 12, 26, unit), fill=(96, 160, 84))
    draw.ellipse(_box(6, 11, 24, 29, unit), fill=(70, 132, 70))
    draw.rectangle(_box(4, 8, 7, 11, unit), fill=(240, 236, 228))
    draw.polygon(
        [(3.6 * unit, 8 * unit), (5.5 * unit, 6 * unit), (7.4 * unit, 8 * unit)], (190, 70, 50)
    )
    for column in (4.5, 5.8):
        draw.rectangle(_box(column, 8.7, column + 0.7, 9.5, unit), fill=(60, 80, 120))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    return pixels / 127.5 - 1


def _box(left: float, top: float, right: float, bottom: float, unit: float) -> list[float]:
    return [left * unit, top * unit, right * unit, bottom * unit]


@contextmanager
def _hooked(vae: AutoencoderKL, hook: Any) -> Iterator[None]:
    norms = [module for module in vae.decoder.modules() if isinstance(module, nn.GroupNorm)]
    handles = [norm.register_forward_hook(hook) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def estimated(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Decode with the statistics of a decode at a quarter of the size, which is not exact."""
    known: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def learn(norm: Any, inputs: Any, _output: Tensor) -> None:
        grouped = inputs[0].reshape(inputs[0].shape[0], norm.num_groups, -1)
        known[norm] = torch.var_mean(grouped, dim=-1, keepdim=True, correction=0)

    def use(norm: Any, inputs: Any, _output: Tensor) -> Tensor:
        variance, mean = known[norm]
        grouped = inputs[0].reshape(inputs[0].shape[0], norm.num_groups, -1)
        values = ((grouped - mean) * torch.rsqrt(variance + norm.eps)).view_as(inputs[0])
        shape = (1, -1, *(1,) * (values.ndim - 2))
        return values * norm.weight.view(shape) + norm.bias.view(shape)

    with _hooked(vae, learn):
        vae.decode(functional.interpolate(latents, scale_factor=0.25, mode="area"))
    with _hooked(vae, use):
        return vae.decode(latents).sample


def draw_errors(undivided: Tensor, ways: dict[str, Tensor], folder: Path) -> None:
    """Save each way's picture and its enlarged error side by side."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in ways.items():
        difference = (picture - undivided).abs() * GAIN - 1
        both = torch.cat((picture, difference), dim=3)
        _save(both, folder / f"decode-{name.replace(' ', '-').replace('_', '-')}.png")


def _save(picture: Tensor, path: Path) -> None:
    half = functional.avg_pool2d(picture.clamp(-1, 1), 2)
    array = ((half[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(array).save(path, optimize=True)
