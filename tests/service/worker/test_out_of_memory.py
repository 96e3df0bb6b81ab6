"""What runs out of memory: a real limit on a real process, and the second, more frugal try."""

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from service.channel import Warm
from service.domain.generations.events import Failed
from service.domain.generations.generation import Generation
from service.settings import Settings, WorkerSettings
from service.storage.store import open_store
from service.supervisor.jobs.process import PipelineProcess
from service.supervisor.supervisor import PIPELINE_COMMAND
from service.worker.engines.diffusion import denoise
from service.worker.weights.frugal import frugal_denoising
from service.worker.weights.memory import Profile, Profiles, profile_path
from service.worker.weights.pipelines import Pipelines
from tests.service.worker.conftest import Child, child_settings

MIB = 1024**2


@pytest.fixture
def limited_child(catalog: Path, tmp_path: Path):
    """A process that has made a picture and may then take only a little more memory."""
    profile = Profile(device="cpu", dtype="float32", weights=0, fixed=0, per_pixel=1)
    (tmp_path / "memory").mkdir()
    profile_path(tmp_path / "catalog.json", "tiny").write_text(
        Profiles(profiles=(profile,)).model_dump_json()
    )
    text = catalog.read_text().replace('"source": "tiny"', f'"source": "{catalog.parent}/tiny"')
    (tmp_path / "catalog.json").write_text(text)
    settings = child_settings(tmp_path / "catalog.json", tmp_path)
    environment = {**settings.environment(), "OMP_NUM_THREADS": "1"}
    process = PipelineProcess(PIPELINE_COMMAND, environment)
    yield Child(process, open_store(settings.store))
    process.kill()


def _ignore(*_: object, **__: object) -> None:
    """Let a step pass."""


def _limit(pid: int, more: int) -> None:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def test_it_fails_with_what_would_fit_and_the_next_one_succeeds(
    limited_child: Child, new_generation: Callable[..., Generation]
) -> None:
    child = limited_child
    assert isinstance(child.hear(), Warm)
    small = {"width": 64, "height": 64, "num_inference_steps": 1}
    assert child.run(new_generation(**small))[-1].type == "succeeded"
    # Threads take some of the room; the latents alone, 64 MiB, take more than all of it at once.
    _limit(child.process.pid, 48 * MIB)
    failed = child.run(new_generation(width=16384, height=16384, num_inference_steps=1))[-1]
    assert isinstance(failed, Failed)
    assert failed.error.reason == "OUT_OF_MEMORY"
    assert "not even for a second, more frugal try" in failed.error.detail
    assert "pixels would fit" in failed.error.detail
    assert child.run(new_generation(**small))[-1].type == "succeeded"


def test_frugal_denoising_takes_one_sample_at_a_time_and_makes_the_same_picture(
    catalog: Path, new_generation: Callable[..., Generation]
) -> None:
    warm = Pipelines(Settings(catalog=catalog, worker=WorkerSettings(device="cpu"))).get("tiny")
    request = new_generation(
        width=128, height=128, num_inference_steps=2, method="hidiffusion"
    ).request
    samples: list[int] = []
    handle = warm.pipe.unet.conv_in.register_forward_hook(
        lambda _module, inputs, _output: samples.append(len(inputs[0]))
    )
    plain = denoise(warm, request, _ignore)
    assert samples == [2, 2]
    samples.clear()
    with frugal_denoising(warm.pipe):
        frugal = denoise(warm, request, _ignore)
    assert samples == [1, 1, 1, 1]
    torch.testing.assert_close(frugal, plain, rtol=1e-3, atol=1e-4)
    samples.clear()
    assert torch.equal(denoise(warm, request, _ignore), plain)
    assert samples == [2, 2]
    handle.remove()
