"""GroupNorm over a feature map that is never in one piece.

GroupNorm needs the mean and variance of each group of channels over the *whole* picture. Tiles
contribute the mean and variance of each channel as they are written, and these are pooled by the
law of total variance, which is exact: nothing is estimated, no difference of large sums is taken.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hidiffusion.decode.errors import NonFiniteError

#: Way out when finite input overflows on the way, which float16 does past 65,504.
REMEDY = "cast the autoencoder to float32 or bfloat16"


class GroupStatistics:
    """Mean and variance of the groups of one `GroupNorm`'s input, gathered tile by tile.

    Args:
        norm: whose input it is.
        where: its place in the autoencoder, for the error message.
    """

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
        dtype = torch.promote_types(values.dtype, torch.float32)
        mean = values.mean((2, 3), keepdim=True, dtype=dtype)
        # torch.var_mean gives the same and takes five times as long on a CPU.
        norm = torch.linalg.vector_norm(values - mean, dim=(2, 3))
        count = values.shape[2] * values.shape[3]
        self._counts.append(count)
        self._means.append(mean[:, :, 0, 0])
        self._variances.append(norm.square() / count)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Fold mean, variance, weight and bias into one multiplication and one addition.

        Returns:
            Scale and shift, each `[B, C, 1, 1]`, in float32 or better.

        Raises:
            NonFiniteError: if a tile held NaN or infinity.
        """
        mean, variance = self._pooled()
        require_finite(mean + variance, f"the inputs of {self._where}", REMEDY)
        norm = self._norm
        repeats = norm.num_channels // norm.num_groups
        scale = torch.rsqrt(variance + norm.eps).repeat_interleave(repeats, dim=1)
        shift = -mean.repeat_interleave(repeats, dim=1) * scale
        if norm.affine:
            weight, bias = norm.weight.to(scale.dtype), norm.bias.to(scale.dtype)
            scale, shift = scale * weight, shift * weight + bias
        return scale[:, :, None, None], shift[:, :, None, None]

    def _pooled(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of each group, `[B, groups]`, over its channels and all tiles."""
        means, variances = self._by_group(self._means), self._by_group(self._variances)
        weights = torch.tensor(self._counts, dtype=means.dtype, device=means.device)
        weights = (weights / weights.sum() / means.shape[-1])[:, None, None, None]
        mean = (weights * means).sum((0, 3), keepdim=True)
        variance = (weights * (variances + (means - mean) ** 2)).sum((0, 3))
        return mean[0, :, :, 0], variance

    def _by_group(self, parts: list[Tensor]) -> Tensor:
        """`[B, C]` of each tile, stacked to `[tiles, B, groups, channels per group]`."""
        stacked = torch.stack(parts)
        return stacked.reshape(*stacked.shape[:2], self._norm.num_groups, -1)


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
