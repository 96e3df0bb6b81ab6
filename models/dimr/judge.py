"""What is measured: the loss on pictures that were held out, and what the noun classifier sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hidiffusion.dimr import DPMSolverFastScheduler
from hidiffusion.dimr.guidance import guide
from models.dimr.config import DimrConfig
from models.dimr.training import add_noise, latents
from models.train.trainings.vae import load_vae

#: Times of the schedule at which the loss is measured.
TIMES = 8


@torch.no_grad()
def held_out_loss(config: DimrConfig, network: nn.Module) -> float:
    """Returns the squared error of the noise, over held-out pictures and even times.

    The same latents, noise and times for every network.
    """
    clean = latents(config)[config.variants :]
    nouns = torch.arange(clean.shape[1])
    generator = torch.Generator().manual_seed(2**31)
    errors = []
    for time in range(TIMES):
        labels = torch.full((len(nouns),), round(1000 * (time + 0.5) / TIMES))
        for variant in clean:
            noise = torch.randn(variant.shape, generator=generator)
            estimate = network(add_noise(variant, noise, labels), labels.float(), nouns).sample
            errors.append(F.mse_loss(estimate, noise))
    return float(torch.stack(errors).mean())


@torch.no_grad()
def draw(config: DimrConfig, network: nn.Module, seed: int) -> Tensor:
    """Returns a picture of every noun, (nouns, 3, size, size) in -1..1, each with its own noise."""
    clean = latents(config)
    count = clean.shape[1]
    nouns = torch.arange(count)
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(clean.shape[1:], generator=generator)
    scheduler = DPMSolverFastScheduler()
    scheduler.set_timesteps(config.steps)
    both = torch.cat([nouns, torch.full_like(nouns, count)])
    for timestep in scheduler.timesteps:
        label = (timestep + 1).expand(2 * count)
        noise = network(torch.cat([sample, sample]), label, both).sample
        conditional, unconditional = noise.chunk(2)
        noise = guide(conditional, unconditional, config.guidance)
        sample = scheduler.step(noise, timestep, sample).prev_sample
    vae: Any = load_vae(config.data.model)
    parts = torch.split(sample, 4)
    return torch.cat([vae.decode(part).sample.clamp(-1, 1) for part in parts])
