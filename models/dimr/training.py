"""Training of a network that estimates the noise in latents of known classes."""

from __future__ import annotations

import functools
import time
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F

from hidiffusion.dimr import DPMSolverFastScheduler
from models.dimr.config import DimrConfig
from models.dimr.networks import build
from models.train.augment import move
from models.train.config import StageConfig, TrainConfig
from models.train.trainings.loop import Trainer, averaged_weights, mixed_precision
from models.train.trainings.unet import noun_pictures, stratified_timesteps
from models.train.trainings.vae import encode, load_vae


def latents(config: DimrConfig) -> Tensor:
    """Returns latents of every noun, moved anew for each variant: (variants, nouns, 4, h, w).

    The last `held_out` variants are not for training. Made once, from the bundled model's encoder.
    """
    file = config.cache / "latents.pt"
    if not file.exists():
        config.cache.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        pictures = noun_pictures(TrainConfig(paths=config.data, size=config.size))
        vae, pictures = load_vae(config.data.model, config.device), pictures.to(config.device)
        variants = [
            encode(vae, move(pictures, config.motion, config.size))
            for _ in range(config.variants + config.held_out)
        ]
        torch.save(torch.stack(variants), file)
    result: Tensor = torch.load(file, weights_only=True)
    return result


def add_noise(clean: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
    """Returns noisy latents at the labels n in 1..1000, whole numbers, of the same shape."""
    schedule = _schedule().to(clean.device, clean.dtype)
    alphas = schedule[labels - 1].view(-1, 1, 1, 1)
    noisy: Tensor = alphas.sqrt() * clean + (1 - alphas).sqrt() * noise
    return noisy


@functools.cache
def _schedule() -> Tensor:
    alphas: Tensor = DPMSolverFastScheduler().alphas_cumprod
    return alphas


def stage_losses(estimates: tuple[Tensor, ...], noise: Tensor) -> list[Tensor]:
    """Returns each stage's squared error, lowest resolution first.

    A stage of a resolution r times lower sees the noise summed over r x r and divided by r, which
    has unit variance again.
    """
    losses = []
    for estimate in estimates:
        ratio = noise.shape[-1] // estimate.shape[-1]
        losses.append(F.mse_loss(estimate.float(), ratio * F.avg_pool2d(noise, ratio)))
    return losses


def train(config: DimrConfig, name: str, stage: StageConfig, seed: int) -> nn.Module:
    """Trains a network of the comparison, or finishes its training.

    Args:
        config: The run's configuration.
        name: Which network.
        stage: Its budget, in processor time.
        seed: Of weights, batches and noise.

    Returns:
        The network with averaged weights.
    """
    clean = latents(config)[: config.variants]
    classes = clean.shape[1]
    clean, device = clean.flatten(0, 1).to(config.device), config.device
    torch.manual_seed(seed)
    network: Any = build(name, classes + 1)
    network.to(device=device, memory_format=torch.channels_last)
    for module in network.modules():
        if device == "cpu" and isinstance(module, Attention):
            # The backward pass of fused attention is far slower on a CPU than matrix products.
            module.set_processor(AttnProcessor())

    def loss() -> Tensor:
        chosen = torch.randint(len(clean), (config.batch_size,), device=device)
        null = torch.rand(config.batch_size, device=device) < config.label_dropout
        nouns = torch.where(null, classes, chosen % classes)
        noise = torch.randn_like(clean[chosen])
        labels = stratified_timesteps(config.batch_size, 1000, device) + 1
        noisy = add_noise(clean[chosen], noise, labels)
        with mixed_precision(device):
            estimates = network(noisy, labels.float(), nouns).stages
        losses = stage_losses(estimates, noise)
        weights = config.loss_weights[-len(losses) :]
        return torch.stack([w * one for w, one in zip(weights, losses, strict=True)]).sum()

    trainer = Trainer(
        run_name(name, stage, seed),
        network,
        loss,
        stage,
        config.cache / "checkpoints",
        time.process_time if device == "cpu" else time.monotonic,
    )
    return trainer.run().eval()


def trained(config: DimrConfig, name: str, stage: StageConfig, seed: int) -> nn.Module:
    """Returns the averaged weights of the newest checkpoint, finished or not."""
    network = build(name, latents(config).shape[1] + 1)
    file = config.cache / "checkpoints" / f"{run_name(name, stage, seed)}.pt"
    network.load_state_dict(averaged_weights(file))
    return network.eval()


def run_name(name: str, stage: StageConfig, seed: int) -> str:
    """Returns the name of a training's files."""
    return f"{name}-{stage.minutes:g}min-{seed}"
