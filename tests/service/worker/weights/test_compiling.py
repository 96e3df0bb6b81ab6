"""Workers with compiled U-Nets: everything is compiled before the first job, and nothing after."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from service.domain.generations.generation import Generation
from service.domain.requests.request import ResolvedRequest
from service.settings import Settings, WorkerSettings
from service.worker.engines.diffusion import denoise
from service.worker.job.snapshot import Snapshot, from_bytes, to_bytes
from service.worker.process.warm_up import warm_up
from service.worker.weights.compiling import checked_backend
from service.worker.weights.frugal import frugal_denoising
from service.worker.weights.pipelines import Pipelines
from tests.hidiffusion.tiny import models as tiny_models

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

STEPS = 4


@pytest.fixture
def pipelines(tmp_path: Path) -> Callable[[str | None], Pipelines]:
    """Opens a catalogue of one model, with few layers because tracing is slow."""
    pipe = tiny_models.sd_pipeline()
    pipe.unet = tiny_models.unet(
        tiny_models.SD15, layers_per_block=1, block_out_channels=(8, 8, 8, 8)
    )
    pipe.save_pretrained(tmp_path / "small")
    model = {
        "name": "small",
        "title": "small",
        "source": "small",
        "native_size": 64,
        "default_size": 128,
        "default_steps": STEPS,
        "default_scheduler": "DDIMScheduler",
        "default_method": "hidiffusion",
        "schedulers": ["DDIMScheduler"],
        "methods": ["direct", "hidiffusion"],
    }
    (tmp_path / "catalog.json").write_text(json.dumps({"models": [model]}))

    def opened(backend: str | None) -> Pipelines:
        worker = WorkerSettings(device="cpu", compile=backend)
        return Pipelines(Settings(catalog=tmp_path / "catalog.json", worker=worker))

    return opened


class Steps:
    """Keeps what would be stored after each step."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []

    def __call__(self, *_: object, **__: object) -> None:
        snapshot = _[3]
        assert isinstance(snapshot, Snapshot)
        self.stored.append(to_bytes(snapshot, {}))


def _request(new_generation: Callable[..., Generation], **changes: object) -> ResolvedRequest:
    return new_generation(
        model="small", height=128, num_inference_steps=STEPS, method="hidiffusion", **changes
    ).request


@pytest.mark.long
def test_jobs_find_their_graphs_ready(
    pipelines: Callable[[str | None], Pipelines], new_generation: Callable[..., Generation]
) -> None:
    request = _request(new_generation, seed=11)
    plain = denoise(pipelines(None).get("small"), request, Steps())
    torch._dynamo.reset()
    counters.clear()
    warm = pipelines("eager").get("small")
    warm_up(warm)
    ready = counters["stats"]["unique_graphs"]
    assert ready >= 2  # the two stages of HiDiffusion's schedule

    steps = Steps()
    whole = denoise(warm, request, steps)
    torch.testing.assert_close(whole, plain)
    begin = from_bytes(steps.stored[1], {}, torch.device("cpu"))
    assert torch.equal(denoise(warm, request, Steps(), begin), whole)
    with frugal_denoising(warm.pipe):
        torch.testing.assert_close(denoise(warm, request, Steps()), plain, rtol=1e-3, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == ready


def test_an_unknown_backend_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'indctor' is no backend.* inductor"):
        checked_backend("indctor")
