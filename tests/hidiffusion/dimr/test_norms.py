"""Time-dependent normalisation used by itself."""

import pytest
import torch

from hidiffusion.dimr import TimeDependentLayerNorm, TimeDependentRMSNorm

NORMS = [TimeDependentRMSNorm, TimeDependentLayerNorm]


@pytest.mark.parametrize("kind", NORMS)
def test_before_training_the_time_changes_nothing(kind: type[torch.nn.Module]) -> None:
    x = torch.randn(2, 5, 6)
    plain = (
        x / x.square().mean(-1, keepdim=True).sqrt()
        if kind is TimeDependentRMSNorm
        else torch.nn.functional.layer_norm(x, (6,))
    )
    for label in (1.0, 1000.0):
        torch.testing.assert_close(kind(6)(x, torch.tensor(label)), plain)


def test_the_noisy_end_is_param0() -> None:
    norm = TimeDependentRMSNorm(2)
    with torch.no_grad():
        norm.scale.param0.fill_(5.0)
        norm.scale.nodecay_weight.fill_(30.0)  # Steep: a step at the middle of the schedule.
    ends = norm.scale(torch.tensor([1000.0, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([[5.0, 5.0], [1.0, 1.0]]))


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("shape", [(3, 6), (3, 5, 6), (3, 4, 5, 6)])
def test_one_time_for_all_is_each_time_alone(
    kind: type[torch.nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    norm, x = kind(6), torch.randn(shape)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    times = torch.tensor([1.0, 500.0, 999.5])
    mixed = norm(x, times)
    for number, time in enumerate(times):
        torch.testing.assert_close(mixed[number], norm(x, time)[number])
        torch.testing.assert_close(mixed[number], norm(x, time[None])[number])
    assert not torch.allclose(norm(x, times[0]), norm(x, times[2]))


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_dtype_and_large_values(
    kind: type[torch.nn.Module], dtype: torch.dtype
) -> None:
    x = torch.randn(2, 3, 64) * 3000  # Squares overflow float16.
    norm = kind(64).to(dtype)
    y = norm(x.to(dtype), torch.tensor([999.0, 1000.0]))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), kind(64)(x, torch.tensor(1.0)), atol=0.03, rtol=0.02)


def test_neighbouring_times_differ_in_half_precision() -> None:
    norm = TimeDependentRMSNorm(1).half()
    with torch.no_grad():
        norm.scale.param0.fill_(100.0)
        values = norm.scale(torch.tensor([500.0, 500.1]))
    assert values[0] != values[1]
