"""A denoising left between two steps and taken up again, on tiny models."""

from collections.abc import Iterator
from pathlib import Path

import diffusers
import pytest
import torch

from service.domain.requests.request import ResolvedRequest
from service.settings import Settings, WorkerSettings
from service.worker.engines.diffusion import denoise
from service.worker.job.snapshot import NotStorable, Snapshot, from_bytes, to_bytes
from service.worker.weights.pipelines import Pipelines
from service.worker.weights.warm import WarmPipeline

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

RECIPE = {"seed": 7}
CPU = torch.device("cpu")

#: Of one step and of several, of one call per step and of two, with noise of their own and without.
SCHEDULERS = [
    "DDIMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
]


class Calls:
    """Counts what the U-Net really computes."""

    def __init__(self, unet: torch.nn.Module) -> None:
        self.number = 0
        self.handle = unet.conv_in.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.number += 1


@pytest.fixture(scope="module")
def warm(catalog: Path) -> WarmPipeline:
    settings = Settings(catalog=catalog, worker=WorkerSettings(device="cpu"))
    return Pipelines(settings).get("tiny")


@pytest.fixture
def calls(warm: WarmPipeline) -> Iterator[Calls]:
    counter = Calls(warm.pipe.unet)
    yield counter
    counter.handle.remove()


def _request(scheduler: str, method: str, **options: object) -> ResolvedRequest:
    return ResolvedRequest(
        prompt="a fox",
        negative_prompt="",
        model="tiny",
        width=128,
        height=128,
        num_inference_steps=4,
        guidance_scale=5.0,
        seed=7,
        scheduler=scheduler,
        method=method,
        output_format="png",
        method_options=options,
    )


def _run(
    warm: WarmPipeline, request: ResolvedRequest, begin: Snapshot | None = None
) -> tuple[torch.Tensor, list[bytes | None]]:
    """The latents, and the snapshot of each step as it would be stored."""
    stored = []

    def on_step(
        step: int,
        total: int,
        latents: torch.Tensor,  # noqa: ARG001
        snapshot: Snapshot | None,
        *,
        left: float,
    ) -> None:
        assert (left == 0) == (step == total)
        assert snapshot is None or snapshot.step == step
        stored.append(None if snapshot is None else to_bytes(snapshot, RECIPE))

    return denoise(warm, request, on_step, begin), stored


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_what_follows_is_bit_equal(warm: WarmPipeline, calls: Calls, scheduler: str) -> None:
    request = _request(scheduler, "hidiffusion")
    whole, stored = _run(warm, request)
    per_step = calls.number // len(stored)
    for done in {len(stored) // 2, len(stored) - 1, len(stored)}:
        calls.number = 0
        begin = from_bytes(stored[done - 1], RECIPE, CPU)
        rest, later = _run(warm, request, begin)
        assert torch.equal(rest, whole), f"after step {done}"
        assert calls.number == per_step * (len(stored) - done)
        assert later == stored[done - 1 :]


@pytest.mark.parametrize("method", ["direct", "raunet", "msw-msa", "upsample-guidance"])
def test_every_method_of_one_pass(warm: WarmPipeline, method: str) -> None:
    request = _request("HeunDiscreteScheduler", method)
    whole, stored = _run(warm, request)
    rest, _ = _run(warm, request, from_bytes(stored[3], RECIPE, CPU))
    assert torch.equal(rest, whole)


#: Methods of several passes, and after how many steps one of them ends that is not the last.
PASSES = {
    "hidiffusion-guided": ({}, [4]),
    "diffuse-high": ({"noising_steps": 25, "num_stages": 2}, [4, 6]),
    "hidiffusion-refresh": ({"refresh_at": 0.5, "num_stages": 1}, [2]),
}


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "UniPCMultistepScheduler"])
@pytest.mark.parametrize("method", PASSES)
def test_every_step_of_every_pass(
    warm: WarmPipeline, calls: Calls, scheduler: str, method: str
) -> None:
    options, ends = PASSES[method]
    request = _request(scheduler, method, **options)
    whole, stored = _run(warm, request)
    assert [step for step, data in enumerate(stored, 1) if data is None] == ends
    assert calls.number == len(stored)
    for done, data in enumerate(stored, 1):
        if data is None:
            continue
        calls.number = 0
        rest, later = _run(warm, request, from_bytes(data, RECIPE, CPU))
        assert torch.equal(rest, whole), f"after step {done}"
        assert calls.number == len(stored) - done
        assert later == stored[done - 1 :]


def test_a_pass_that_needs_the_steps_before_it_begins_anew(warm: WarmPipeline) -> None:
    _, stored = _run(warm, _request("DDIMScheduler", "hidiffusion-guided", reference="trajectory"))
    assert set(stored) == {None}


def test_nothing_of_it_stays_behind(warm: WarmPipeline) -> None:
    request = _request("UniPCMultistepScheduler", "hidiffusion")
    whole, stored = _run(warm, request)
    _run(warm, request, from_bytes(stored[1], RECIPE, CPU))
    assert "step" not in vars(warm.pipe.scheduler)
    assert torch.equal(_run(warm, request)[0], whole)


def test_another_recipe_is_passed_over(warm: WarmPipeline) -> None:
    _, stored = _run(warm, _request("DDIMScheduler", "direct"))
    assert from_bytes(stored[0], {"seed": 8}, CPU) is None


@pytest.mark.parametrize("data", [b"", b"12345678", b"\2\0\0\0\0\0\0\0{}", b"\xff" * 40])
def test_what_is_no_snapshot_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a snapshot"):
        from_bytes(data, RECIPE, CPU)


def test_a_truncated_snapshot_is_told(warm: WarmPipeline) -> None:
    _, stored = _run(warm, _request("DDIMScheduler", "direct"))
    with pytest.raises(ValueError, match="not a snapshot"):
        from_bytes(stored[0][:-100], RECIPE, CPU)


def test_a_scheduler_with_a_state_of_its_own_kind_is_refused(warm: WarmPipeline) -> None:
    pytest.importorskip("torchsde")
    assert hasattr(diffusers, "DPMSolverSDEScheduler")
    with pytest.raises(NotStorable, match="BrownianTree"):
        _run(warm, _request("DPMSolverSDEScheduler", "direct"))
