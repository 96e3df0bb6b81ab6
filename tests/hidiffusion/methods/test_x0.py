"""Predicted x0 is seen and changed alike in every scheduler and for every kind of prediction."""

import copy
import inspect
from typing import Any

import diffusers
import pytest
import torch

from hidiffusion import InvalidConfigError
from hidiffusion.methods.bands import BoxBand
from hidiffusion.methods.noise import Noise, clean_prediction, prediction
from hidiffusion.methods.x0 import (
    Fade,
    LowBandGuide,
    Moment,
    NoisyPart,
    Trajectory,
    adjusted_x0,
    observed_steps,
)
from tests.hidiffusion.pipelines.test_pipelines_schedulers import CALLS, build_scheduler
from tests.hidiffusion.tiny import models as tiny_models

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
#: Schedulers that end on a little noise, by their own settings or because they draw some at last.
ENDS_NOISY = {"PNDMScheduler", "DEISMultistepScheduler", "SASolverScheduler", "TCDScheduler"}


def _scheduler(name: str, kind: str = "epsilon") -> Any:
    scheduler = getattr(diffusers, name)() if name in FLOW else build_scheduler(name)
    if "prediction_type" in scheduler.config:
        scheduler.register_to_config(prediction_type=kind)
    scheduler.set_timesteps(6)
    return scheduler


def _run(scheduler: Any) -> torch.Tensor:
    """Run a model that answers with a bounded function of what it sees."""
    generator = torch.Generator().manual_seed(0)
    named = inspect.signature(scheduler.step).parameters
    extra = {"generator": generator} if "generator" in named else {}
    latents = torch.randn(1, 2, 8, 8, generator=generator)
    latents = latents * float(getattr(scheduler, "init_noise_sigma", 1.0))
    for timestep in scheduler.timesteps:
        scale = getattr(scheduler, "scale_model_input", lambda x, _: x)
        output = torch.tanh(scale(latents, timestep))
        latents = scheduler.step(output, timestep, latents, return_dict=False, **extra)[0]
    return latents


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", [*sorted(set(CALLS) - {"IPNDMScheduler"}), *FLOW])
def test_a_run_whose_x0_is_held_ends_there(name: str, kind: str) -> None:
    scheduler = _scheduler(name, kind)
    target = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    with adjusted_x0(scheduler, lambda *_: target):
        end = _run(scheduler)
    assert (end - target).abs().max() < (0.3 if name in ENDS_NOISY else 1e-5)
    assert "step" not in vars(scheduler)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_flow_prediction_of_a_multistep_solver(name: str) -> None:
    scheduler = getattr(diffusers, name)(prediction_type="flow_prediction", use_flow_sigmas=True)
    scheduler.set_timesteps(6)
    target = torch.ones(1, 2, 8, 8)
    with adjusted_x0(scheduler, lambda *_: target):
        assert (_run(scheduler) - target).abs().max() < 1e-5


def test_x0_is_the_schedulers_own() -> None:
    for name in ("DDIMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"):
        scheduler = _scheduler(name, "v_prediction")
        sample, output = torch.randn(2, 1, 2, 4, 4).unbind()
        timestep = scheduler.timesteps[0]
        scheduler.scale_model_input(sample, timestep)
        ours = prediction(scheduler, timestep).x0(sample, output)
        theirs = scheduler.step(output, timestep, sample).pred_original_sample
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["IPNDMScheduler", "HeunDiscreteScheduler", "DDIMScheduler"])
def test_an_adjustment_that_changes_nothing_is_bit_equal(name: str) -> None:
    plain = _run(_scheduler(name))
    scheduler = _scheduler(name)
    with adjusted_x0(scheduler, lambda x0, _: x0):
        assert torch.equal(_run(scheduler), plain)


def test_an_unknown_prediction_type_is_named() -> None:
    with pytest.raises(InvalidConfigError, match="prediction_type is 'score'"):
        clean_prediction("score", Noise(1.0, 1.0))


def test_observers_see_the_latents_and_may_end_the_run() -> None:
    scheduler, seen = _scheduler("DDIMScheduler"), []

    def observe(latents: torch.Tensor) -> None:
        seen.append(latents)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), observed_steps(scheduler, observe):
        _run(scheduler)
    assert len(seen) == 2
    assert "step" not in vars(scheduler)


def test_a_copied_scheduler_steps_by_itself() -> None:
    scheduler = _scheduler("EulerDiscreteScheduler")
    with adjusted_x0(scheduler, lambda x0, _: torch.zeros_like(x0)):
        twin = copy.deepcopy(scheduler)
        assert _run(twin).abs().max() < 1e-5
        assert twin.step_index == 6
        assert scheduler.step_index is None


def test_nested_adjustments_both_act() -> None:
    scheduler = _scheduler("DDIMScheduler")
    with adjusted_x0(scheduler, lambda x0, _: torch.ones_like(x0)):
        with adjusted_x0(scheduler, lambda x0, _: 2 * x0):
            assert (_run(scheduler) - 2).abs().max() < 1e-5
        scheduler.set_timesteps(6)
        assert (_run(scheduler) - 1).abs().max() < 1e-5


def test_pipelines_still_find_the_parameters_of_step() -> None:
    pipe = tiny_models.sd_pipeline()
    plain = tiny_models.generate(pipe, 8, 8, eta=0.5, num_inference_steps=2)
    with adjusted_x0(pipe.scheduler, lambda x0, _: x0):
        hooked = tiny_models.generate(pipe, 8, 8, eta=0.5, num_inference_steps=2)
    assert torch.equal(hooked, plain)


def test_a_guide_holds_the_band_while_its_weight_lasts() -> None:
    pipe, box = tiny_models.sd_pipeline(), BoxBand((4, 4))
    reference = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    with adjusted_x0(pipe.scheduler, LowBandGuide(reference, box, Fade())):
        held = tiny_models.generate(pipe, 8, 8)
    # DDIM ends at its final alpha, not quite 1.
    torch.testing.assert_close(box.down(held), box.down(reference), atol=0.1, rtol=0.05)
    with adjusted_x0(pipe.scheduler, LowBandGuide(reference, box, Fade(end=0.0))):
        free = tiny_models.generate(pipe, 8, 8)
    assert torch.equal(free, tiny_models.generate(pipe, 8, 8))


def test_a_trajectory_gives_what_was_predicted_at_that_time() -> None:
    path = Trajectory(lambda x0: 10 * x0)
    for value, time in ((1.0, 0.9), (2.0, 0.5), (3.0, 0.1)):
        x0 = torch.full((1,), value)
        assert path.record(x0, Moment(0, 3, time)) is x0
    assert path.at(Moment(0, 9, 0.55)) == 20.0
    assert path.at(Moment(0, 9, 0.0)) == 30.0


def test_the_moment_is_that_of_the_run() -> None:
    """Of a run over the last steps, its first call is the begin, whatever the scheduler keeps."""
    scheduler, seen = _scheduler("DDIMScheduler"), []

    def note(x0: torch.Tensor, moment: Moment) -> torch.Tensor:
        seen.append(moment)
        return x0

    with adjusted_x0(scheduler, note):
        for timestep in scheduler.timesteps[2:]:
            scheduler.step(torch.zeros(1, 2, 4, 4), timestep, torch.zeros(1, 2, 4, 4))
    assert [(each.step, each.total) for each in seen] == [(step, 4) for step in range(4)]
    assert [each.time for each in seen] == [float(time) / 1000 for time in scheduler.timesteps[2:]]


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (Fade(0.5), [0.5] * 6),
        (Fade(2.0, end=0.5), [2.0] * 3 + [0.0] * 3),
        (Fade(1.0, end=5 / 6), [1.0] * 5 + [0.0]),
        (Fade(1.0, end=0.5, fade=1.0), [1.0, 2 / 3, 1 / 3, 0, 0, 0]),
        (Fade(1.0, end=1.0, fade=0.6), [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]),
        (NoisyPart(1.2, eta=0.4), [1.2] * 3 + [0.0] * 3),
    ],
)
def test_weights_over_a_run(weight: Any, expected: list[float]) -> None:
    moments = [Moment(step, 6, 0.95 - 0.15 * step) for step in range(6)]
    assert [weight(each) for each in moments] == pytest.approx(expected)
