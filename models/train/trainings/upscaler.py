"""A small Inf-DiT: four times larger pictures, learnt from emoji pictures.

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

from hidiffusion.inf_dit.attention import BlockAttention, NearbyAttention
from hidiffusion.inf_dit.blocks import Modulation
from hidiffusion.inf_dit.pictures import resize
from hidiffusion.inf_dit.pipeline import InfDiTUpscalePipeline
from hidiffusion.inf_dit.transformer import InfDiTTransformer
from models.train.augment import Motion, move
from models.train.config import TrainConfig, UpscalerConfig
from models.train.data.dataset import pack_pictures, to_tensor
from models.train.trainings.loop import Trainer, averaged_weights

#: One picture in ten is for measuring only; which ones follows from their names.
HELD_OUT = 10
#: Noise levels that its sampler begins and ends at. The reference takes 40 and 0.002, which
#: training draws once in two thousand times or less. Noise is laid over the enlarged picture, whose
#: error of 0.1 a level of 2 hides, and is best in one step; below 0.1 is nothing left to draw.
SIGMA_MAX, SIGMA_MIN = 2.0, 0.1
MOTION = Motion(smallest=0.5, largest=1.25, shift=0.1, degrees=8, mirror=True)


def held_out(code: str) -> bool:
    """Tell whether a picture, by its code, is kept for measuring."""
    return zlib.crc32(code.encode()) % HELD_OUT == 0


def build_upscaler(settings: UpscalerConfig) -> InfDiTTransformer:
    """Build the network, which begins as the best blend of its two pictures, pixel by pixel.

    An hour of one processor is too short to learn to copy: the enlarged picture reaches the
    network divided by the noise level. So the first layer copies both pictures into the tokens, the
    last one adds them up, and the residual branches begin at zero (see `_blend`).
    """
    network: InfDiTTransformer = InfDiTTransformer(
        num_layers=settings.layers,
        num_attention_heads=settings.heads,
        attention_head_dim=settings.width // settings.heads,
        block_size=settings.block,
        image_embed_dim=None,
        time_channels=64,
    )
    blocks: Any = network.transformer_blocks
    blank: list[nn.Linear] = [block.ff.net[2] for block in blocks]
    for module in network.modules():
        if isinstance(module, Modulation):
            blank.append(module.linear)
        if isinstance(module, BlockAttention | NearbyAttention):
            last: Any = module.to_out[0]
            blank.append(last)
    for layer in blank:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    _copy_pictures(network)
    _read_as_written(network)
    _blend(network)
    return network


#: What fills the tokens' channels that hold no pixel, half of it negative, so that their
#: normalisation divides by nearly the same number everywhere.
_FILL = 8.0
#: Deviation of large pictures from enlarged ones, about, on [-1, 1].
_DETAIL = 0.1


def _copy_pictures(network: InfDiTTransformer) -> None:
    """Let the first layer copy both pictures' pixels, and the last one add them up."""
    patch = network.config.patch_size
    pixels = 3 * patch**2
    first: Any = network.patch_embed["proj"]
    last = network.proj_out
    nn.init.zeros_(first.weight)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    rest = first.weight.shape[0] - 2 * pixels
    with torch.no_grad():
        for channel in range(2 * pixels):
            picture, pixel = divmod(channel, pixels)
            row, column, colour = pixel // (3 * patch), pixel // 3 % patch, pixel % 3
            first.weight[channel, 3 * picture + colour, row, column] = 1
            last.weight[pixel, channel] = 1
        first.bias.copy_(_filling(network))
        # Normalisation takes the mean away; the other channels hold it, and give it back.
        last.weight[:, 2 * pixels :] = -2 / rest


def _read_as_written(network: InfDiTTransformer) -> None:
    """Let every layer see the pixels as they are in the tokens, and nothing of what fills them up.

    Normalised, pixels are a quarter as large beside constants of two, and little is learnt from
    them: with the same five minutes this was worth 2 dB at noise levels of 0.1 and 0.3.
    """
    filled = _filling(network)
    spread = _spread(filled)
    blocks: Any = network.transformer_blocks
    for block in blocks:
        shift_a, scale_a, shift_m, scale_m = block.norm1.linear.bias.data.chunk(4)
        for shift, scale in ((shift_a, scale_a), (shift_m, scale_m)):
            scale.fill_(spread - 1)
            shift.copy_(-filled)


def _filling(network: InfDiTTransformer) -> Tensor:
    """What the tokens hold, `[C]`, beside pixels."""
    width, pixels = network.proj_out.weight.shape[1], 3 * network.config.patch_size**2
    filled = torch.zeros(width)
    filled[2 * pixels :: 2], filled[2 * pixels + 1 :: 2] = _FILL, -_FILL
    return filled


def _spread(filled: Tensor) -> float:
    """What normalisation divides tokens by, about: the deviation of what fills them up."""
    return float(filled.square().mean().sqrt())


def _blend(network: InfDiTTransformer, rounds: int = 1500) -> None:
    """Fit the last modulation to the weights of the two pictures at each noise level.

    If a large picture is the enlarged one and details of deviation r, its mean given a noisy one is
    enlarged + r^2 / (r^2 + sigma^2) * (noisy - enlarged).
    """
    width, pixels = network.proj_out.weight.shape[1], 3 * network.config.patch_size**2
    of_noisy = torch.zeros(width, dtype=torch.bool)
    of_noisy[:pixels] = True
    of_noisy[2 * pixels : 2 * pixels + (width - 2 * pixels) // 2] = True
    sigma = torch.logspace(-2.8, 1.65, 200)
    data = network.config.sigma_data
    variance = sigma**2 + data**2
    share = _DETAIL**2 / (_DETAIL**2 + sigma**2)
    gain = variance / (sigma * data)
    noisy, enlarged = gain * (share - data**2 / variance), gain * (1 - share)
    spread = _spread(_filling(network))
    wanted = torch.where(of_noisy, noisy[:, None], enlarged[:, None]) * spread - 1
    weight = 1 / (1 + wanted.abs())
    parameters = [*network.time_embed.parameters(), *network.norm_out.parameters()]
    optimizer = torch.optim.Adam(parameters, 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, rounds)
    for _ in range(rounds):
        shift, scale = network.norm_out(network.condition(sigma))
        loss = (weight * (scale[:, 0] - wanted)).square().mean() + shift.square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()


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
    places = torch.arange(-4, 5, dtype=pictures.dtype, device=pictures.device)
    kernel = torch.exp(-(places**2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(pictures, (4, 4, 4, 4), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def crops(pictures: Tensor, settings: UpscalerConfig) -> Tensor:
    """Draw a batch of crops, moved anew, from pictures; of three places the busiest one is taken.

    Args:
        pictures: `[count, size, size, 3]`, bytes.
        settings: gives the crop's side and the batch.

    Returns:
        `[B, 3, side, side]` on [-1, 1], on their device.
    """
    size, device = pictures.shape[1], pictures.device
    drawn = torch.randint(len(pictures), (settings.batch_size,), device=device)
    moved = move(to_tensor(pictures[drawn]), MOTION, size)
    picked = []
    for picture in moved:
        corners = torch.randint(size - settings.crop + 1, (3, 2)).tolist()
        seen = [picture[:, y : y + settings.crop, x : x + settings.crop] for y, x in corners]
        picked.append(torch.stack(seen))
    candidates = torch.stack(picked)
    best = candidates.flatten(2).var(-1).argmax(1)
    return candidates[torch.arange(len(best), device=device), best]


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
    shown = torch.from_numpy(pictures[chosen]).to(config.device)
    network = build_upscaler(settings)
    network.to(config.device)  # type: ignore[arg-type]

    def loss() -> Tensor:
        return denoising_loss(network, crops(shown, settings))

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
    sigma = (torch.randn(len(large), device=large.device) * 1.4 - 1.0).exp()
    level = sigma.view(-1, 1, 1, 1)
    noisy = large + level * torch.randn_like(large)
    evaluation = network.begin(*large.shape[-2:])
    (chunk,) = evaluation.scan
    clean = network(noisy, sigma, lr=small, lr_up=enlarged, chunk=chunk, evaluation=evaluation)
    weight = (level**2 + deviation**2) / (level * deviation) ** 2
    loss: Tensor = (weight * (clean - large) ** 2).mean()
    return loss


def export_upscaler(config: TrainConfig) -> None:
    """Write the newest averaged weights as a pipeline in half precision."""
    network = build_upscaler(config.upscaler)
    network.load_state_dict(averaged_weights(config.paths.checkpoints / "upscaler.pt"))
    half: Any = network.to
    pipeline = InfDiTUpscalePipeline(half(torch.float16), sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)
    pipeline.save_pretrained(config.paths.upscaler)


def unseen_pictures(config: TrainConfig, count: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Return pictures that training never saw, evenly spread, and their codes.

    Args:
        config: the run's configuration.
        count: how many.

    Returns:
        `[count, side, side, 3]` and the codes.
    """
    pictures, codes = pack_pictures(config.paths, config.size)
    kept = [index for index, code in enumerate(codes) if held_out(code)]
    chosen = kept[:: max(1, len(kept) // count)][:count]
    return pictures[chosen], [codes[index] for index in chosen]
