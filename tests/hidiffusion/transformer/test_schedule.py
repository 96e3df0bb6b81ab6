"""The time shift of pictures beyond the training size."""

import copy
import math
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

from hidiffusion.errors import InvalidConfigError
from hidiffusion.transformer.families import FAMILIES, Family
from hidiffusion.transformer.schedule import pipeline_mu, time_shift

FLUX, FLUX2 = (next(row for row in FAMILIES if row.name == name) for name in ("Flux.1", "Flux.2"))


def dynamic() -> Any:
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)


def sigmas(scheduler: Any, mu: float, steps: int = 28) -> Any:
    """Set timesteps as Flux's pipeline does."""
    linear = torch.linspace(1, 1 / steps, steps).tolist()
    retrieve_timesteps(scheduler, steps, "cpu", sigmas=linear, mu=mu)
    return scheduler.sigmas


@pytest.mark.parametrize("tokens", [1024, 4096, 16384, 65536])
def test_the_pipelines_rules(tokens: int) -> None:
    config = dynamic().config
    assert pipeline_mu(FLUX, config, tokens, 28) == pytest.approx(calculate_shift(tokens))
    for steps in (8, 28, 50):
        own = compute_empirical_mu(tokens, steps)
        assert pipeline_mu(FLUX2, config, tokens, steps) == pytest.approx(own)


def test_flux_keeps_its_native_schedule_at_every_size() -> None:
    """At 4096 pixels the pipeline's shift leaves the whole picture to the last step."""
    native = sigmas(dynamic(), 1.15).clone()
    collapsed = sigmas(dynamic(), 11.55)
    assert collapsed[-2] > 0.999
    assert native[-2] == pytest.approx(0.105, abs=1e-3)
    scheduler = dynamic()
    with time_shift(scheduler, FLUX, "native", 64):
        for tokens in (4096, 16384, 65536):
            assert torch.allclose(sigmas(scheduler, calculate_shift(tokens)), native)
        small = sigmas(scheduler, calculate_shift(1024)).clone()
        copied = copy.deepcopy(scheduler)
        assert torch.allclose(sigmas(copied, 11.55), native)
        assert torch.equal(scheduler.sigmas, small)
    assert "set_timesteps" not in vars(scheduler)
    assert torch.equal(small, sigmas(scheduler, calculate_shift(1024)))
    assert torch.equal(sigmas(scheduler, 11.55), collapsed)


@pytest.mark.parametrize("family", [FLUX, FLUX2], ids=["flux", "flux2"])
def test_shift_by_the_root_of_the_enlargement(family: Family) -> None:
    scheduler = dynamic()
    native = pipeline_mu(family, scheduler.config, 4096, 28)
    asked = pipeline_mu(family, scheduler.config, 65536, 28)
    expected = sigmas(dynamic(), native + math.log(4)).clone()
    with time_shift(scheduler, family, "sqrt", 64):
        assert torch.allclose(sigmas(scheduler, asked), expected, atol=1e-6)
    with time_shift(scheduler, family, "pipeline", 64):
        assert torch.allclose(sigmas(scheduler, asked), sigmas(dynamic(), asked))


def test_a_static_shift_stays() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    with time_shift(scheduler, FLUX, "native", 64):
        assert "set_timesteps" not in vars(scheduler)
    with (
        pytest.raises(InvalidConfigError, match="does not depend on the size"),
        time_shift(scheduler, FLUX, "sqrt", 64),
    ):
        pass
