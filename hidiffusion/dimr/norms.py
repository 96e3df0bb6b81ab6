"""Normalisation whose scale and shift move with the diffusion time (section 3.3 of the paper).

Between its values at both ends of the schedule a parameter follows a sigmoid of the time; the slope
and the place of the sigmoid are learned for each channel. Four vectors a parameter, and no network
that makes parameters from a time embedding, as adaptive normalisation has.

Time is given as the label n in (0, 1000], a float: 1000 is pure noise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Added to the root mean square, outside the root (the authors' RMSNorm).
RMS_EPSILON = 1e-8

#: Added to the variance inside the root (the authors' LayerNorm).
LAYER_EPSILON = 1e-5


class TimeDependentVector(nn.Module):
    """A vector that moves from `param1` (clean) to `param0` (noise) with the time.

    `p(n) = param1 + sigmoid((1 + nodecay_weight) u + nodecay_bias) (param0 - param1)` with
    `u = n / 500 - 1`; the names are those of the authors' checkpoints. The two `nodecay` vectors
    are trained without weight decay.

    Args:
        dim: length of the vector.
        start: value of both ends before training: 1 for a scale, 0 for a shift.
    """

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.param0 = nn.Parameter(torch.full((dim,), start))
        self.param1 = nn.Parameter(torch.full((dim,), start))
        self.nodecay_weight = nn.Parameter(torch.zeros(dim))
        self.nodecay_bias = nn.Parameter(torch.zeros(dim))

    def forward(self, timestep: Tensor) -> Tensor:
        """Return the vector at each time.

        Args:
            timestep: labels n in (0, 1000], floating point, of any shape.

        Returns:
            Shape `timestep.shape + (dim,)`, in float32 at least: half precision would make one time
            of two in a fine schedule.
        """
        dtype = torch.promote_types(torch.float32, self.param0.dtype)
        dtype = torch.promote_types(dtype, timestep.dtype)
        place = (timestep.to(dtype) / 500 - 1)[..., None]
        share = torch.sigmoid((1 + self.nodecay_weight.to(dtype)) * place + self.nodecay_bias)
        noisy, clean = self.param0.to(dtype), self.param1.to(dtype)
        return clean + share * (noisy - clean)


class TimeDependentRMSNorm(nn.Module):
    """Root-mean-square normalisation over the last dimension, with a time-dependent scale.

    Args:
        dim: size of the last dimension.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = TimeDependentVector(dim, start=1.0)

    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Tensor:
        """Normalise.

        Args:
            hidden_states: `[B, ..., dim]`, floating point.
            timestep: labels n in (0, 1000], floating point: `[B]`, one a sample, or a single one,
                `[]` or `[1]`, for all.

        Returns:
            Shape and dtype of `hidden_states`; computed in float32 at least.
        """
        x = hidden_states.to(torch.promote_types(torch.float32, hidden_states.dtype))
        root = x.square().mean(-1, keepdim=True).sqrt()
        scale = _spread(self.scale(timestep), x)
        return (x / (root + RMS_EPSILON) * scale).to(hidden_states.dtype)


class TimeDependentLayerNorm(nn.Module):
    """Layer normalisation over the last dimension, with a time-dependent scale and shift.

    Args:
        dim: size of the last dimension.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = TimeDependentVector(dim, start=1.0)
        self.bias = TimeDependentVector(dim, start=0.0)

    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Tensor:
        """Normalise.

        Args:
            hidden_states: `[B, ..., dim]`, floating point.
            timestep: labels n in (0, 1000], floating point: `[B]`, one a sample, or a single one,
                `[]` or `[1]`, for all.

        Returns:
            Shape and dtype of `hidden_states`; computed in float32 at least.
        """
        x = hidden_states.to(torch.promote_types(torch.float32, hidden_states.dtype))
        normal = F.layer_norm(x, x.shape[-1:], eps=LAYER_EPSILON)
        weight, bias = (_spread(vector(timestep), x) for vector in (self.weight, self.bias))
        return (normal * weight + bias).to(hidden_states.dtype)


def _spread(vectors: Tensor, x: Tensor) -> Tensor:
    """Give vectors `[C]` or `[B, C]` the dimensions between batch and channels of `x`."""
    if vectors.dim() == 1:
        return vectors
    return vectors.view(vectors.shape[0], *(1,) * (x.dim() - 2), vectors.shape[-1])
