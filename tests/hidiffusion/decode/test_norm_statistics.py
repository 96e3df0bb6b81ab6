"""Pooled statistics give what GroupNorm gives on the undivided map."""

import pytest
import torch
from torch import nn

from hidiffusion.decode.errors import NonFiniteError
from hidiffusion.decode.norm_statistics import GroupStatistics, normalise
from tests.hidiffusion.decode.small_vae import largest_difference, noise


def _norm(affine: bool = True) -> nn.GroupNorm:
    norm = nn.GroupNorm(3, 6, eps=1e-6, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm.requires_grad_(False)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_unequal_tiles_pool_to_the_undivided_norm(affine: bool, offset: float) -> None:
    norm = _norm(affine)
    values = noise(2, 6, 17, 23) * torch.linspace(0.1, 9, 23) + offset
    statistics = GroupStatistics(norm, "norm")
    for part in (values[:, :, :5, :4], values[:, :, :5, 4:], values[:, :, 5:]):
        statistics.add(part)
    exact = norm.double()(values.double())
    assert largest_difference(normalise(values, statistics.affine()), exact) < 5e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once_as_group_norm_does(dtype: torch.dtype) -> None:
    norm, values = _norm().to(dtype), noise(1, 6, 9, 9).to(dtype)
    statistics = GroupStatistics(norm, "norm")
    statistics.add(values[:, :, :4])
    statistics.add(values[:, :, 4:])
    ours = normalise(values, statistics.affine())
    assert ours.dtype == dtype
    exact = norm.double()(values.double())
    assert largest_difference(ours, exact) <= 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_tile_that_is_not_finite_names_the_layer(bad: float) -> None:
    statistics = GroupStatistics(_norm(), "decoder.up_blocks.3")
    values = noise(1, 6, 4, 4)
    values[0, 0, 0, 0] = bad
    statistics.add(values)
    with pytest.raises(NonFiniteError, match=r"decoder\.up_blocks\.3.*float32") as raised:
        statistics.affine()
    assert raised.value.where == "the inputs of decoder.up_blocks.3"
