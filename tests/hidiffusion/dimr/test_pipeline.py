"""The pipeline as its users call it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DPMSolverSinglestepScheduler

from hidiffusion.dimr import DiMRPipeline, DPMSolverFastScheduler
from hidiffusion.errors import InvalidConfigError
from tests.hidiffusion.dimr.references import difference
from tests.hidiffusion.dimr.tiny import tiny_dimr, tiny_vae


def pipeline(scheduler: Any = None) -> DiMRPipeline:
    """Return a pipeline of three classes, with random weights."""
    names = {0: "cat, tabby", 1: "dog", 2: "fox"}
    torch.manual_seed(0)
    pipe = DiMRPipeline(tiny_dimr(), tiny_vae(), scheduler or DPMSolverFastScheduler(), names)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe() -> DiMRPipeline:
    """One pipeline for the tests that leave it as it is."""
    return pipeline()


def draw(pipe: DiMRPipeline, labels: Any, **arguments: Any) -> torch.Tensor:
    """Return latents of a short run from seed 0."""
    settings: dict[str, Any] = {"num_inference_steps": 4, "output_type": "latent"}
    settings["generator"] = torch.Generator().manual_seed(0)
    result: torch.Tensor = pipe(labels, **settings | arguments).images
    return result


def test_classes_by_name_and_number_are_the_same(pipe: DiMRPipeline) -> None:
    assert pipe.labels == {"cat": 0, "dog": 1, "fox": 2, "tabby": 0}
    by_number = draw(pipe, [0, 2])
    assert difference(draw(pipe, ["tabby", "fox"]), by_number) == 0
    assert difference(draw(pipe, [0, 1])[1], by_number[1]) > 0


def test_pictures_have_the_trained_size_or_a_smaller_one(pipe: DiMRPipeline) -> None:
    assert draw(pipe, "dog", output_type="pil")[0].size == (16, 16)
    assert draw(pipe, 1, output_type="np").shape == (1, 16, 16, 3)
    assert draw(pipe, 1, output_type="pt", height=8, width=12).shape == (1, 3, 8, 12)
    with pytest.raises(InvalidConfigError, match="16x8 are larger than the 8x8"):
        draw(pipe, 1, height=32)


def test_a_picture_does_not_depend_on_its_batch(pipe: DiMRPipeline) -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 0)]
    batch = draw(pipe, ["dog", "fox"], generator=generators)
    torch.testing.assert_close(batch[1:], draw(pipe, "fox"))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("wolf", "no class named 'wolf'"),
        ([0, 3], "no class 3; classes are 0 to 2"),
        (-1, "class -1"),
    ],
)
def test_unknown_classes_are_refused(pipe: DiMRPipeline, labels: Any, told: str) -> None:
    with pytest.raises(InvalidConfigError, match=told):
        draw(pipe, labels)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"guidance_power": 0.0}, "guidance_power is 0.0"),
        ({"guidance_power": 2.0, "guidance_scale": 0.5}, "must be at least 1"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"latents": torch.zeros(2, 4, 8, 8)}, "2 latents for 1 class"),
    ],
)
def test_bad_settings_are_refused(
    pipe: DiMRPipeline, arguments: Mapping[str, Any], told: str
) -> None:
    with pytest.raises(InvalidConfigError, match=told):
        draw(pipe, 0, **arguments)


def test_guidance_moves_the_picture_and_one_is_none(pipe: DiMRPipeline) -> None:
    none = draw(pipe, 0, guidance_scale=1.0)
    assert difference(draw(pipe, 0, guidance_scale=0.0), none) == 0
    assert difference(draw(pipe, 0, guidance_scale=1.4), none) > 1e-4
    assert difference(draw(pipe, 0, guidance_scale=3.0, guidance_power=2.0), none) > 1e-4


@pytest.mark.parametrize("steps", range(1, 8))
def test_steps_are_calls_of_the_network(steps: int) -> None:
    pipe = pipeline()
    calls: list[float] = []
    pipe.transformer.register_forward_pre_hook(lambda _, inputs: calls.append(float(inputs[1])))
    draw(pipe, 0, num_inference_steps=steps)
    assert len(calls) == steps
    assert calls[0] == 1000


def test_every_step_is_told_and_a_run_can_be_ended(pipe: DiMRPipeline) -> None:
    told: list[int] = []

    def stop(running: DiMRPipeline, step: int, _timestep: Any, _now: Any) -> dict[str, Any]:
        told.append(step)
        running._interrupt = step == 2
        return {}

    draw(pipe, 0, num_inference_steps=6, callback_on_step_end=stop)
    assert told == [0, 1, 2]


# diffusers 0.42 makes an array of a tensor in a way that numpy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_solvers_agree_where_steps_are_many() -> None:
    settings: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "solver_order": 3,
        "final_sigmas_type": "sigma_min",
        "lower_order_final": True,
    }
    ours = draw(pipeline(), [0, 1], num_inference_steps=100)
    theirs = draw(
        pipeline(DPMSolverSinglestepScheduler(**settings)), [0, 1], num_inference_steps=100
    )
    assert (ours - theirs).std() / ours.std() < 1e-3


def test_half_precision_draws_nearly_the_same_picture(pipe: DiMRPipeline) -> None:
    half = pipeline()
    half.transformer.to(torch.bfloat16)
    wanted = draw(pipe, [0, 1])
    ours = draw(half, [0, 1])
    assert ours.dtype == torch.float32
    assert (ours - wanted).std() / wanted.std() < 0.1


def test_a_saved_pipeline_is_the_same(pipe: DiMRPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    again = DiMRPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again.labels == pipe.labels
    assert isinstance(again.scheduler, DPMSolverFastScheduler)
    assert difference(draw(again, "fox"), draw(pipe, "fox")) == 0
