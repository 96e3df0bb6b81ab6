"""GroupNorm over a feature map that is never in one piece.

GroupNorm needs the mean and variance of each group of channels over the *whole* picture. Tiles
contribute their own mean and variance as they are written, and the two are pooled by the law of
total variance, which is exact: nothing is estimated, and no difference of large sums is taken.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hidiffusion.decode.errors import NonFiniteError


class GroupStatistics:
    """Mean and variance of the groups of one `GroupNorm`'s input, gathered tile by tile."""

    def __init__(self, norm: nn.GroupNorm, where: str) -> None:
        self._norm = norm
        self._where = where
        self._counts: list[int] = []
        self._means: list[Tensor] = []
        self._variances: list[Tensor] = []

    def add(self, values: Tensor) -> None:
        """Take in one tile; tiles must not overlap.

        Args:
            values: `[B, C, h, w]`, any floating dtype.
        """
        grouped = values.reshape(values.shape[0], self._norm.num_groups, -1)
        precise = grouped.to(_accurate(values.dtype))
        variance, mean = torch.var_mean(precise, dim=-1, correction=0)
        self._counts.append(grouped.shape[-1])
        self._means.append(mean)
        self._variances.append(variance)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Fold mean, variance, weight and bias into one multiplication and one addition.

        Returns:
            Scale and shift, each `[B, C, 1, 1]`, in float32 or better.

        Raises:
            NonFiniteError: if a tile held NaN or infinity.
        """
        mean, variance = self._pooled()
        require_finite(mean + variance, f"the inputs of {self._where}", "decode in float32")
        norm = self._norm
        repeats = norm.num_channels // norm.num_groups
        scale = torch.rsqrt(variance + norm.eps).repeat_interleave(repeats, dim=1)
        shift = -mean.repeat_interleave(repeats, dim=1) * scale
        if norm.affine:
            weight, bias = norm.weight.to(scale.dtype), norm.bias.to(scale.dtype)
            scale, shift = scale * weight, shift * weight + bias
        return scale[:, :, None, None], shift[:, :, None, None]

    def _pooled(self) -> tuple[Tensor, Tensor]:
        means, variances = torch.stack(self._means), torch.stack(self._variances)
        weights = torch.tensor(self._counts, dtype=means.dtype, device=means.device)
        weights = (weights / weights.sum())[:, None, None]
        mean = (weights * means).sum(0)
        return mean, (weights * (variances + (means - mean) ** 2)).sum(0)


def normalise(values: Tensor, affine: tuple[Tensor, Tensor]) -> Tensor:
    """Apply `GroupStatistics.affine` as `GroupNorm` does: in float32, rounded once at the end."""
    scale, shift = affine
    return torch.addcmul(shift, values, scale).to(values.dtype)


def require_finite(values: Tensor, where: str, remedy: str) -> None:
    """Raise if `values` hold NaN or infinity.

    A tensor on the meta device has a shape and no values: such a run only plans memory and work.

    Args:
        values: any tensor.
        where: what it is, for the message: a plural noun.
        remedy: what to do about it.

    Raises:
        NonFiniteError: if any value is not finite.
    """
    if not values.is_meta and not bool(torch.isfinite(values).all()):
        raise NonFiniteError(where, remedy)


def _accurate(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
