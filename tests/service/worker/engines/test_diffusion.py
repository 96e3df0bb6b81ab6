"""Methods of several passes on a warm pipeline: one progress, one way to end it."""

from pathlib import Path

import pytest
import torch

from service.domain.requests.request import ResolvedRequest
from service.settings import Settings, WorkerSettings
from service.worker.engines.diffusion import denoise
from service.worker.job.snapshot import Snapshot
from service.worker.weights.pipelines import Pipelines
from service.worker.weights.warm import WarmPipeline

SEVERAL = ["diffuse-high", "hidiffusion-guided", "hidiffusion-refresh"]


@pytest.fixture(scope="module")
def warm(catalog: Path) -> WarmPipeline:
    settings = Settings(catalog=catalog, worker=WorkerSettings(device="cpu"))
    return Pipelines(settings).get("tiny")


class Steps:
    """Keeps what it hears; raises at a step, if one is given."""

    def __init__(self, raise_at: int = 0) -> None:
        self.heard: list[tuple[int, int]] = []
        self.left: list[float] = []
        self.raise_at = raise_at

    def __call__(
        self,
        step: int,
        total: int,
        latents: torch.Tensor,
        snapshot: Snapshot | None,
        *,
        left: float,
    ) -> None:
        assert latents.shape[0] == 1
        del snapshot
        self.heard.append((step, total))
        self.left.append(left)
        if step == self.raise_at:
            raise KeyboardInterrupt


def _request(method: str, **options: float | str) -> ResolvedRequest:
    return ResolvedRequest(
        prompt="a fox",
        negative_prompt="",
        model="tiny",
        width=128,
        height=128,
        num_inference_steps=10,
        guidance_scale=5.0,
        seed=7,
        scheduler="DDIMScheduler",
        method=method,
        method_options=options,
        output_format="png",
    )


@pytest.mark.parametrize("method", SEVERAL)
def test_progress_counts_every_pass(warm: WarmPipeline, method: str) -> None:
    steps = Steps()
    latents = denoise(warm, _request(method), steps)
    total = len(steps.heard)
    assert latents.shape == (1, 4, 16, 16)
    assert steps.heard == [(step, total) for step in range(1, total + 1)]
    assert steps.left[-1] == pytest.approx(0, abs=1e-9)
    # A step of native size is cheap: more is left than the number of steps says.
    assert steps.left[0] >= total - 1


@pytest.mark.parametrize("method", SEVERAL)
def test_a_run_ends_in_any_pass_and_leaves_nothing_behind(warm: WarmPipeline, method: str) -> None:
    plain = denoise(warm, _request("direct"), Steps())
    for step in (1, 10):
        with pytest.raises(KeyboardInterrupt):
            denoise(warm, _request(method), Steps(raise_at=step))
    assert torch.equal(denoise(warm, _request("direct"), Steps()), plain)


def test_a_run_ends_while_a_picture_is_decoded_on_the_way(warm: WarmPipeline) -> None:
    def alive() -> None:
        raise KeyboardInterrupt

    steps = Steps()
    with pytest.raises(KeyboardInterrupt):
        denoise(warm, _request("diffuse-high"), steps, alive=alive)
    assert steps.heard[-1][0] == 10


def test_options_reach_the_method(warm: WarmPipeline) -> None:
    plain = denoise(warm, _request("hidiffusion-guided"), Steps())
    held = denoise(warm, _request("hidiffusion-guided", band_end=0.2), Steps())
    assert not torch.equal(plain, held)
