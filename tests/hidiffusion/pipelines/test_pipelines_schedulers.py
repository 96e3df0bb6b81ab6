"""Every scheduler that the pipelines accept, second-order and SDE ones included."""

import inspect

import diffusers
import pytest
import torch
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

from hidiffusion import apply_hidiffusion, remove_hidiffusion
from tests.hidiffusion.pipelines.pipeline_kinds import Cell, Sides, build
from tests.hidiffusion.pipelines.test_pipelines import table_rows

pytestmark = [
    # diffusers hands tensors to numpy 2 in ways that numpy deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
    # torchsde rounds the ends of its interval, and says so.
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

#: U-Net calls of a run of five steps, and how many of them shrink: 0.4 of the calls, rounded down,
#: and with the last of these any call that repeats its timestep (PNDM's second).
CALLS = {
    "DDIMScheduler": (5, 2),
    "DDPMScheduler": (5, 2),
    "PNDMScheduler": (6, 3),
    "LMSDiscreteScheduler": (5, 2),
    "EulerDiscreteScheduler": (5, 2),
    "HeunDiscreteScheduler": (9, 3),
    "EulerAncestralDiscreteScheduler": (5, 2),
    "DPMSolverMultistepScheduler": (5, 2),
    "DPMSolverSinglestepScheduler": (5, 2),
    "KDPM2DiscreteScheduler": (9, 3),
    "KDPM2AncestralDiscreteScheduler": (9, 3),
    "DEISMultistepScheduler": (5, 2),
    "UniPCMultistepScheduler": (5, 2),
    "DPMSolverSDEScheduler": (9, 3),
    "EDMEulerScheduler": (5, 2),
    "EDMDPMSolverMultistepScheduler": (5, 2),
    "IPNDMScheduler": (5, 2),
    "LCMScheduler": (5, 2),
    "TCDScheduler": (5, 2),
    "SASolverScheduler": (5, 2),
    "DDIMParallelScheduler": (5, 2),
    "DDPMParallelScheduler": (5, 2),
}
#: Settings without which a scheduler is not the one people use with these models.
SETTINGS = {
    "PNDMScheduler": {"skip_prk_steps": True},
    "DPMSolverSDEScheduler": {"noise_sampler_seed": 0},
}
FAMILIES = {"SD 1.5": "StableDiffusionPipeline", "SDXL": "StableDiffusionXLPipeline"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", CALLS)
def test_a_scheduler_keeps_the_schedule(name: str, family: str) -> None:
    scheduler = build_scheduler(name)
    pipe = build(FAMILIES[family], family, scheduler=scheduler)
    cell = Cell("scheduler", family, FAMILIES[family])
    direct = cell.call(pipe)
    apply_hidiffusion(pipe)
    with Sides(pipe.unet) as sides:
        patched = cell.call(pipe)
    remove_hidiffusion(pipe)
    calls, shrunk = CALLS[name]
    full = cell.expected_sides()[-1]
    assert sides.seen == expected(calls, shrunk, full)
    assert torch.isfinite(patched).all()
    assert not torch.equal(patched, direct)
    assert torch.equal(cell.call(pipe), direct)


def build_scheduler(name: str) -> diffusers.SchedulerMixin:
    """Build a scheduler as the published Stable Diffusion models set it, where it can be set so."""
    cls = getattr(diffusers, name)
    accepted = inspect.signature(cls.__init__).parameters
    published = {"steps_offset": 1, "clip_sample": False}
    settings = {field: value for field, value in published.items() if field in accepted}
    return cls(**settings, **SETTINGS.get(name, {}))


def expected(calls: int, shrunk: int, full: int) -> tuple[int, ...]:
    """Return the mid-block's side in each call."""
    return (full // 2,) * shrunk + (full,) * (calls - shrunk)


def test_every_scheduler_that_diffusers_lists_is_tested() -> None:
    assert {entry.name for entry in KarrasDiffusionSchedulers} <= set(CALLS)


def test_the_page_lists_exactly_the_tested_schedulers() -> None:
    shown = {row[0].strip("`") for row in table_rows() if row[0].endswith("Scheduler`")}
    assert shown == set(CALLS)
