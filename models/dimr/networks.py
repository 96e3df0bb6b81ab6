"""The networks of the comparison: one resolution, and adaptive normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hidiffusion.dimr import (
    DiMROutput,
    DiMRTransformer,
    TimeDependentLayerNorm,
    TimeDependentRMSNorm,
)
from hidiffusion.dimr.config import StageConfig
from hidiffusion.dimr.stage import Stage
from models.dimr.config import SINGLE, STAGES

#: Width of the time embedding that adaptive normalisation makes its parameters from.
EMBEDDING = 128


class SingleResolution(nn.Module):
    """The Transformer stage alone, whose last convolution gives the noise of whole patches.

    This is U-ViT's design (Bao et al., arXiv 2209.12152), which DiMR adds the resolutions to.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        config = StageConfig(**SINGLE)
        self.patch = config.input_feature_ratio
        self.stage = Stage(4, config, None, num_classes)
        channels = 4 * self.patch**2
        self.stage.proj_out = nn.Conv2d(config.dim, channels, 3, padding=1)

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor) -> DiMROutput:
        """Estimates the noise; shapes as in `DiMRTransformer`."""
        noise = self.stage(sample, timestep, class_labels).sample
        noise = F.pixel_shuffle(noise, self.patch)
        return DiMROutput(noise, (noise,))


class TimeEmbedding(nn.Module):
    """Sines and cosines of the time, and two linear layers, as in DiT (arXiv 2212.09748)."""

    def __init__(self) -> None:
        super().__init__()
        frequencies = torch.exp(-torch.linspace(0, 1, EMBEDDING // 2) * torch.tensor(1e4).log())
        self.register_buffer("frequencies", frequencies)
        self.layers = nn.Sequential(
            nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU()
        )

    def forward(self, timestep: Tensor) -> Tensor:
        """Returns (n, 128) for labels (n,) in (0, 1000]."""
        angles = timestep.view(-1, 1) * torch.as_tensor(self.frequencies)
        layers: Any = self.layers
        embedded: Tensor = layers(torch.cat([angles.sin(), angles.cos()], dim=-1))
        return embedded


class AdaptiveNorm(nn.Module):
    """Normalisation whose parameters a linear layer makes from the time embedding.

    Args:
        dim: Size of the last dimension.
        time: Shared by all norms of the network.
        centred: Layer normalisation with scale and shift; else root mean square with a scale.
    """

    def __init__(self, dim: int, time: TimeEmbedding, centred: bool) -> None:
        super().__init__()
        self.time, self.centred = time, centred
        self.linear = nn.Linear(EMBEDDING, (1 + centred) * dim)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Tensor:
        """Normalises; shapes as in `TimeDependentLayerNorm`."""
        x = hidden_states.float()
        parameters = self.linear(self.time(timestep)).float()
        parameters = parameters.view(len(parameters), *(1,) * (x.dim() - 2), -1)
        if self.centred:
            scale, shift = parameters.chunk(2, dim=-1)
            x = F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
        else:
            x = F.rms_norm(x, x.shape[-1:], eps=1e-8) * (1 + parameters)
        result: Tensor = x.to(hidden_states.dtype)
        return result


def with_adaptive_norms(model: nn.Module) -> nn.Module:
    """Replaces every time-dependent norm of a network; returns the network."""
    time = TimeEmbedding()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, TimeDependentRMSNorm):
                setattr(module, name, AdaptiveNorm(child.scale.param0.numel(), time, False))
            elif isinstance(child, TimeDependentLayerNorm):
                setattr(module, name, AdaptiveNorm(child.weight.param0.numel(), time, True))
    return model


def build(name: str, num_classes: int) -> nn.Module:
    """Returns an untrained network of the comparison by name.

    Raises:
        ValueError: There is no such network.
    """
    if name == "single-resolution":
        return SingleResolution(num_classes)
    model: nn.Module = DiMRTransformer(STAGES, num_classes=num_classes)
    if name == "adaptive-norms":
        return with_adaptive_norms(model)
    if name != "dimr":
        raise ValueError(f"network is {name!r}; choose from {', '.join(NETWORKS)}")
    return model


NETWORKS = ("dimr", "single-resolution", "adaptive-norms")
