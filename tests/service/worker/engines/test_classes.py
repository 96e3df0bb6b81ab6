"""Classes drawn on a warm pipeline: steps, batches, interrupted runs, and little memory."""

from pathlib import Path

import pytest
import torch

from service.domain.requests.request import ResolvedRequest
from service.settings import Settings, WorkerSettings
from service.worker.engines.classes import draw_classes
from service.worker.job.snapshot import Snapshot, from_bytes, to_bytes
from service.worker.process.warm_up import warm_up
from service.worker.weights.frugal import frugal_denoising
from service.worker.weights.pipelines import Pipelines
from service.worker.weights.warm import WarmPipeline
from tests.class_models import SIDE, write_catalog

SCHEDULERS = ["DPMSolverFastScheduler", "UniPCMultistepScheduler"]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> WarmPipeline:
    """The tiny model, loaded as the worker loads it."""
    catalog: Path = write_catalog(tmp_path_factory.mktemp("models"))
    settings = Settings(catalog=catalog, worker=WorkerSettings(device="cpu"))
    return Pipelines(settings).get("classes")


class Steps:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int, float]] = []
        self.snapshots: list[Snapshot | None] = []

    def __call__(
        self,
        step: int,
        total: int,
        latents: torch.Tensor,
        snapshot: Snapshot | None,
        *,
        left: float,
    ) -> None:
        assert latents.shape[1:] == (4, SIDE // 8, SIDE // 8)
        self.heard.append((step, total, left))
        self.snapshots.append(snapshot)


def request(label: int = 0, seed: int = 7, scheduler: str = SCHEDULERS[0]) -> ResolvedRequest:
    """A request of seven steps."""
    return ResolvedRequest(
        prompt="a class",
        class_label=str(label),
        negative_prompt="",
        model="classes",
        width=SIDE,
        height=SIDE,
        num_inference_steps=7,
        guidance_scale=1.4,
        seed=seed,
        scheduler=scheduler,
        method="direct",
        output_format="png",
    )


def test_each_step_is_told_and_classes_and_seeds_differ(warm: WarmPipeline) -> None:
    steps = Steps()
    latents = draw_classes(warm, request(), steps)
    assert steps.heard == [(step, 7, 7 - step) for step in range(1, 8)]
    assert torch.equal(draw_classes(warm, request(), Steps()), latents)
    assert not torch.equal(draw_classes(warm, request(label=1), Steps()), latents)
    assert not torch.equal(draw_classes(warm, request(seed=8), Steps()), latents)


# diffusers 0.42 makes an array of a tensor in a way that numpy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_run_taken_up_at_any_step_ends_in_the_same_latents(
    warm: WarmPipeline, scheduler: str
) -> None:
    steps, asked = Steps(), request(scheduler=scheduler)
    whole = draw_classes(warm, asked, steps)
    for snapshot in steps.snapshots:
        assert snapshot is not None
        stored = from_bytes(to_bytes(snapshot, {}), {}, torch.device("cpu"))
        rest = Steps()
        assert torch.equal(draw_classes(warm, asked, rest, stored), whole)
        assert [step for step, _, _ in rest.heard] == list(range(snapshot.step, 8))


def test_a_row_of_a_batch_is_the_picture_that_it_is_alone(warm: WarmPipeline) -> None:
    rows = [request(label=label, seed=label) for label in range(3)]
    steps = Steps()
    together = draw_classes(warm, rows[0], steps, mates=rows[1:])
    assert steps.snapshots == [None] * 7
    for row, drawn in zip(rows, together, strict=True):
        torch.testing.assert_close(drawn[None], draw_classes(warm, row, Steps()))


def test_with_little_memory_the_picture_is_the_same(warm: WarmPipeline) -> None:
    usual = draw_classes(warm, request(), Steps())
    with frugal_denoising(warm.pipe):
        torch.testing.assert_close(draw_classes(warm, request(), Steps()), usual)


def test_it_warms_up(warm: WarmPipeline) -> None:
    warm_up(warm)
