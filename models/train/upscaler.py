"""The small Inf-DiT that ships: four times larger pictures, learnt from emoji pictures.

The recipe is the reference's (Inf-DiT, arXiv 2405.04312: EDM weighting, noise levels from
exp(N(-1.0, 1.4))) with two things left out: its degradation is one light pass here (one of three
resamplings, sometimes blur and noise), and the small picture is never dropped. Rotary origins need
not be drawn, because attention sees differences of positions only.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hidiffusion.inf_dit.pictures import resize
from hidiffusion.inf_dit.transformer import InfDiTTransformer, Modulation
from models.train.augment import Motion, move
from models.train.config import TrainConfig, UpscalerConfig
from models.train.dataset import pack_pictures, to_tensor
from models.train.loop import Trainer

#: One picture in ten is for measuring only; which ones follows from their names.
HELD_OUT = 10
MOTION = Motion(smallest=0.5, largest=1.25, shift=0.1, degrees=8, mirror=True)


def held_out(code: str) -> bool:
    """Tell whether a picture, by its code, is kept for measuring."""
    return zlib.crc32(code.encode()) % HELD_OUT == 0


def build_upscaler(settings: UpscalerConfig) -> InfDiTTransformer:
    """Build the untrained network; it starts as one that answers zero."""
    network: InfDiTTransformer = InfDiTTransformer(
        num_layers=settings.layers,
        num_attention_heads=settings.heads,
        attention_head_dim=settings.width // settings.heads,
        block_size=settings.block,
        image_embed_dim=None,
        time_channels=64,
    )
    for module in network.modules():
        if isinstance(module, Modulation):
            nn.init.zeros_(module.linear.weight)
            nn.init.zeros_(module.linear.bias)
    nn.init.zeros_(network.proj_out.weight)
    nn.init.zeros_(network.proj_out.bias)
    return network


def degrade(large: Tensor, scale: int) -> Tensor:
    """Make small pictures of large ones, each batch in another way.

    Args:
        large: `[B, 3, h, w]` on [-1, 1].
        scale: how many times smaller.
    """
    height, width = large.shape[-2] // scale, large.shape[-1] // scale
    if torch.rand(()) < 0.2:
        large = _blurred(large, float(0.5 + 1.5 * torch.rand(())))
    match int(torch.randint(4, ())):
        case 0:
            small = F.interpolate(large, (height, width), mode="area")
        case 1:
            small = F.interpolate(large, (height, width), mode="bilinear", antialias=True)
        case _:
            small = resize(large, height, width)
    if torch.rand(()) < 0.3:
        small = small + 0.03 * torch.rand(()) * torch.randn_like(small)
    return small.clamp(-1, 1)


def _blurred(pictures: Tensor, deviation: float) -> Tensor:
    places = torch.arange(-4, 5, dtype=pictures.dtype)
    kernel = torch.exp(-(places**2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(pictures, (4, 4, 4, 4), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def crops(
    pictures: NDArray[np.uint8], chosen: list[int], settings: UpscalerConfig, size: int
) -> Tensor:
    """Draw a batch of crops, moved anew, from pictures; of three places the busiest one is taken.

    Args:
        pictures: what `pack_pictures` returns.
        chosen: which of them may be drawn.
        settings: gives the crop's side and the batch.
        size: side that pictures are moved at.

    Returns:
        `[B, 3, side, side]` on [-1, 1].
    """
    drawn = [chosen[int(i)] for i in torch.randint(len(chosen), (settings.batch_size,))]
    moved = move(to_tensor(pictures[drawn]), MOTION, size)
    picked = []
    for picture in moved:
        corners = torch.randint(size - settings.crop + 1, (3, 2)).tolist()
        seen = [picture[:, y : y + settings.crop, x : x + settings.crop] for y, x in corners]
        picked.append(max(seen, key=lambda crop: float(crop.var())))
    return torch.stack(picked)


def train_upscaler(config: TrainConfig) -> InfDiTTransformer:
    """Train the upscaler, or go on where training was stopped.

    Args:
        config: the run's configuration.

    Returns:
        The network with averaged weights.
    """
    torch.manual_seed(config.seed)
    settings = config.upscaler
    pictures, codes = pack_pictures(config.paths, config.size)
    chosen = [index for index, code in enumerate(codes) if not held_out(code)]
    network = build_upscaler(settings)

    def loss() -> Tensor:
        return denoising_loss(network, crops(pictures, chosen, settings, config.size))

    trainer = Trainer("upscaler", network, loss, settings.stage, config.paths.checkpoints)
    trainer.run()
    averaged: Any = trainer.average.module
    trained: InfDiTTransformer = averaged
    return trained


def denoising_loss(network: InfDiTTransformer, large: Tensor) -> Tensor:
    """Return the loss of EDM (Karras et al., arXiv 2206.00364, table 1) on large pictures."""
    scale, deviation = network.config.sr_scale, network.config.sigma_data
    small = degrade(large, scale)
    enlarged = resize(small, *large.shape[-2:])
    sigma = (torch.randn(len(large)) * 1.4 - 1.0).exp()
    level = sigma.view(-1, 1, 1, 1)
    noisy = large + level * torch.randn_like(large)
    evaluation = network.begin(*large.shape[-2:])
    (chunk,) = evaluation.scan
    clean = network(noisy, sigma, lr=small, lr_up=enlarged, chunk=chunk, evaluation=evaluation)
    weight = (level**2 + deviation**2) / (level * deviation) ** 2
    loss: Tensor = (weight * (clean - large) ** 2).mean()
    return loss
