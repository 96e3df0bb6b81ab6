"""Training of the autoencoder on crops, and latents of zero mean and unit deviation."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from models.train.architecture import build_vae
from models.train.augment import Motion, move
from models.train.config import TrainConfig
from models.train.data.dataset import load_nouns, pack_pictures, to_tensor
from models.train.trainings.loop import Trainer, averaged_weights, mixed_precision

#: Darkest channel of the colours that crops are tinted with, a share of white.
DARKEST = 0.6


def load_vae(pipeline: Path, device: str = "cpu") -> Any:
    """Returns the autoencoder of a pipeline's folder, in float32, on a device."""
    load: Any = AutoencoderKL.from_pretrained
    return load(pipeline, subfolder="vae").to(device).eval()


class CropSampler:
    """Draws random crops that show more than the white ground.

    Args:
        config: The run's configuration.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.known_share = config.vae.known_share
        self.device = config.device
        self.shapes = itertools.cycle(config.vae.crops)
        self.pictures, codes = pack_pictures(config.paths, config.size)
        rows = {code: row for row, code in enumerate(codes)}
        self.known = [rows[noun.code] for noun in load_nouns(config.paths)]
        self.tinted, self.motion = config.vae.tinted, config.vae.motion
        if self.motion is not None:  # a GPU would wait for a file's pages
            self.whole = torch.from_numpy(np.array(self.pictures)).to(self.device)
        self.random = np.random.default_rng(config.seed)

    def batch(self) -> Tensor:
        """Returns crops of shape (count, 3, side, side) in -1..1, on the run's device."""
        side, count = next(self.shapes)
        if self.motion is None:
            crops = to_tensor(np.stack([self._one(side) for _ in range(count)])).to(self.device)
        else:
            crops = self._moved(self.motion, side, count)
        return crops.to(memory_format=torch.channels_last)

    def _moved(self, motion: Motion, side: int, count: int) -> Tensor:
        rows = torch.tensor([self._row() for _ in range(count)], device=self.device)
        whole = to_tensor(self.whole[rows])
        pictures = move(whole, motion, whole.shape[2])
        y, x = self.random.integers(0, whole.shape[2] - side + 1, 2)
        crops = pictures[..., y : y + side, x : x + side]
        glass = torch.rand(count, 3, 1, 1, device=self.device) * (1 - DARKEST) + DARKEST
        clear = torch.rand(count, 1, 1, 1, device=self.device) >= self.tinted
        return torch.where(clear, crops, (crops + 1) * glass - 1)

    def _row(self) -> int:
        known = self.random.random() < self.known_share
        return int(
            self.random.choice(self.known) if known else self.random.integers(len(self.pictures))
        )

    def _one(self, side: int) -> NDArray[np.uint8]:
        picture = self.pictures[self._row()]
        corners = self.random.integers(0, picture.shape[0] - side + 1, (4, 2))
        crops = [picture[y : y + side, x : x + side] for y, x in corners]
        best: NDArray[np.uint8] = crops[0]
        for crop in crops[1:]:
            if crop_detail(crop) > crop_detail(best):
                best = crop
        turned = best[:, ::-1] if self.random.random() < 0.5 else best
        if self.random.random() >= self.tinted:
            return turned
        # White becomes the colour itself, what lies on it is seen as through a glass.
        glass: NDArray[np.uint8] = (turned * self.random.uniform(DARKEST, 1, 3)).astype(np.uint8)
        return glass


def crop_detail(crop: NDArray[np.uint8]) -> float:
    """Returns how much a crop shows: the standard deviation of a subsampled crop."""
    return float(crop[::8, ::8].std())


def reconstruction_loss(output: Tensor, target: Tensor, edge_weight: float) -> Tensor:
    """Returns L1 and squared error of pixels, L1 of their differences to both sides, and colour.

    Colour is what a pixel differs from its own grey by. Its squared error keeps hues apart that
    plain L1 merges for the first thousands of steps; that of the pixels is what PSNR counts.
    """
    loss = F.l1_loss(output, target) + 5 * F.mse_loss(output, target)
    for axis in (2, 3):
        loss = loss + edge_weight * F.l1_loss(output.diff(dim=axis), target.diff(dim=axis))
    hue, wanted = (pixels - pixels.mean(1, keepdim=True) for pixels in (output, target))
    return loss + F.l1_loss(hue, wanted) + 5 * F.mse_loss(hue, wanted)


def train_vae(config: TrainConfig) -> Any:
    """Trains the autoencoder, or finishes its training.

    Args:
        config: The run's configuration.

    Returns:
        The autoencoder with averaged weights.
    """
    torch.manual_seed(config.seed)
    vae = build_vae(config)
    if config.vae.start is not None:
        vae.load_state_dict(load_vae(config.vae.start).state_dict())
    vae = vae.to(config.device).to(memory_format=torch.channels_last)
    sampler = CropSampler(config)

    def loss() -> Tensor:
        crops = sampler.batch()
        with mixed_precision(config.device):
            posterior = vae.encode(crops).latent_dist
            output = vae.decode(posterior.sample()).sample.float()
        error = reconstruction_loss(output, crops, config.vae.edge_weight)
        divergence = posterior.kl().float().mean() / posterior.mean[0].numel()
        total: Tensor = error + config.vae.kl_weight * divergence
        return total

    trainer = Trainer("vae", vae, loss, config.vae.stage, config.paths.checkpoints)
    return trainer.run().eval()


class LatentDecoder(nn.Module):
    """The autoencoder's half that turns latents into pictures.

    Args:
        vae: Shares its layers.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder

    def forward(self, latents: Tensor) -> Tensor:
        """Returns (n, 3, 8h, 8w) pictures of (n, 4, h, w) latents."""
        decoded: Tensor = self.decoder(self.post_quant_conv(latents))
        return decoded


def train_decoder(config: TrainConfig, vae: Any) -> None:
    """Goes on training the decoder alone, on latents that no longer change.

    The U-Net can train meanwhile. A little noise on the latents stands for its errors.

    Args:
        config: The run's configuration.
        vae: Trained autoencoder with normalised latents; its decoder gets averaged weights.
    """
    torch.manual_seed(config.seed)
    vae = vae.to(config.device).to(memory_format=torch.channels_last)
    decoder, sampler = LatentDecoder(vae), CropSampler(config)

    def loss() -> Tensor:
        crops = sampler.batch()
        with mixed_precision(config.device):
            with torch.no_grad():
                latents = vae.encode(crops).latent_dist.mean
            noisy = latents + config.vae.decoder_noise * torch.randn_like(latents)
            output = decoder(noisy).float()
        return reconstruction_loss(output, crops, config.vae.edge_weight)

    Trainer("decoder", decoder, loss, config.vae.decoder_stage, config.paths.checkpoints).run()
    load_decoder(config, vae)


def load_decoder(config: TrainConfig, vae: Any) -> None:
    """Puts the newest averaged decoder weights into the autoencoder, if there are any."""
    file = config.paths.checkpoints / "decoder.pt"
    if file.exists():
        LatentDecoder(vae).load_state_dict(averaged_weights(file))


@torch.no_grad()
def encode(vae: Any, pictures: Tensor) -> Tensor:
    """Returns the latents' means of (n, 3, h, w) pictures, shape (n, 4, h/8, w/8), on the CPU."""
    parts = tqdm(torch.split(pictures, 32), desc="encoding", disable=len(pictures) <= 32)
    return torch.cat([vae.encode(part.to(vae.device)).latent_dist.mean.cpu() for part in parts])


@torch.no_grad()
def normalise_latents(vae: Any, latents: Tensor) -> None:
    """Folds the latents' mean and deviation per channel into the 1x1 convolutions around them.

    The pipeline can only scale latents; folding also centres them, so diffusion starts from the
    statistics that its noise has, and `scaling_factor` stays 1.

    Args:
        vae: Changed in place.
        latents: Latents of the training pictures, shape (n, 4, h, w).
    """
    latents = latents.to(vae.device)
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:4] /= deviation.view(4, 1, 1, 1)
    into.bias[:4] = (into.bias[:4] - mean) / deviation
    into.bias[4:] -= 2 * deviation.log()
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= deviation.view(1, 4, 1, 1)


@torch.no_grad()
def psnr(vae: Any, pictures: Tensor) -> Tensor:
    """Returns each picture's reconstruction PSNR in dB; input (n, 3, h, w) in -1..1."""
    errors = []
    for part in tqdm(torch.split(pictures, 4), desc="measuring PSNR"):
        wanted = part.to(vae.device)
        output = vae.decode(vae.encode(wanted).latent_dist.mean).sample.clamp(-1, 1)
        errors.append((output - wanted).div(2).pow(2).mean((1, 2, 3)).cpu())
    return -10 * torch.cat(errors).log10()
