"""Rotary positions beyond the training size, as numbers."""

import math

import pytest
import torch

from hidiffusion.transformer.positions import (
    Axis,
    Scales,
    entropy_temperature,
    frequencies,
    yarn_temperature,
)

FLUX = Axis(dim=56, theta=1e4, native=64)
PLACES = [0, 4, 8, 10, 12, 14, 16, 20, 27]


@pytest.mark.parametrize(
    ("tokens", "ratios", "temperature"),
    [
        (256, [1, 0.8515, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25], 1.1386),
        (128, [1, 0.9219, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], 1.0693),
    ],
)
def test_yarn_agrees_with_published_code(
    tokens: int, ratios: list[float], temperature: float
) -> None:
    """Numbers of DyPE's code for Flux at the first time step, where it is YaRN."""
    scale = tokens / 64
    found = frequencies(FLUX, scale, "yarn") / frequencies(FLUX, 1, "yarn")
    assert found[PLACES].tolist() == pytest.approx(ratios, abs=5e-5)
    assert yarn_temperature(scale) == pytest.approx(temperature, abs=5e-5)


@pytest.mark.parametrize("scale", [1.25, 2.0, 4.0, 8.0])
def test_closed_forms(scale: float) -> None:
    own = frequencies(FLUX, 1, "none")
    assert torch.allclose(frequencies(FLUX, scale, "interpolation"), own / scale)
    ntk = frequencies(FLUX, scale, "ntk") / own
    assert ntk[0] == pytest.approx(1)
    assert ntk[-1] == pytest.approx(1 / scale)
    assert torch.all(ntk.diff() < 0)


@pytest.mark.parametrize("rule", ["none", "interpolation", "ntk", "yarn"])
@pytest.mark.parametrize("axis", [FLUX, Axis(48, 256, 64), Axis(32, 2000, 64), Axis(6, 1e4, 8)])
def test_every_rule_leaves_native_size_and_lies_between_own_and_interpolated(
    rule: str, axis: Axis
) -> None:
    own = frequencies(axis, 1, "none")
    assert torch.equal(frequencies(axis, 1, rule), own)
    assert torch.equal(frequencies(axis, 0.5, rule), own)
    scaled = frequencies(axis, 3, rule)
    assert torch.all(scaled <= own)
    assert torch.all(scaled >= own / 3 - 1e-12)


def test_axes_are_scaled_by_their_own_length_or_jointly() -> None:
    assert Scales.of((128, 48), 64, joint=False) == (2, 1)
    assert Scales.of((128, 48), 64, joint=True) == (2, 2)
    assert Scales.of((64, 64), 64, joint=True).native


def test_entropy_temperature_is_that_of_proportional_attention() -> None:
    """Query and key both carry the factor, so the logits carry its square."""
    native, keys = 4096 + 512, 65536 + 512
    assert entropy_temperature(keys, native) ** 2 == pytest.approx(
        math.sqrt(math.log(keys) / math.log(native))
    )
    assert entropy_temperature(keys, native) ** 2 == pytest.approx(1.147, abs=5e-4)
    assert entropy_temperature(native, native) == 1
