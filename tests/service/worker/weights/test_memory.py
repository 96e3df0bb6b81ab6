"""The memory model's arithmetic, and what the pipeline process does with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from service.channel import Warm
from service.domain.generations.generation import Generation
from service.domain.models.catalog import Catalog
from service.storage.store import open_store
from service.supervisor.jobs.process import PipelineProcess
from service.supervisor.supervisor import PIPELINE_COMMAND
from service.worker.weights.memory import (
    Measured,
    MemoryModel,
    Profile,
    Profiles,
    free_memory,
    load_profiles,
    profile_path,
)
from tests.service.worker.conftest import Child, child_settings

MIB = 1024**2

points = st.lists(
    st.builds(
        Measured,
        pixels=st.integers(1, 2**24),
        method=st.just("direct"),
        bytes=st.integers(0, 2**40),
    ),
    min_size=1,
    max_size=8,
)


@given(points)
def test_no_measurement_lies_above_the_fit(measured: list[Measured]) -> None:
    profile = Profile.fit("cpu", "float32", 0, measured)
    for point in measured:
        assert profile.run(point.pixels) >= point.bytes


def test_measurements_on_a_line_give_that_line() -> None:
    on_line = [Measured(pixels=n, method="direct", bytes=1000 + 3 * n) for n in (10, 20, 50)]
    profile = Profile.fit("cpu", "float32", 7, on_line)
    assert (profile.fixed, profile.per_pixel, profile.run(100)) == (1000, 3.0, 1300)


@given(st.integers(0, 2**36), st.integers(0, 2**30), st.floats(0.1, 5000))
def test_the_capacity_fits_and_more_does_not(budget: int, fixed: int, per_pixel: float) -> None:
    profile = Profile(device="cpu", dtype="float32", weights=5, fixed=fixed, per_pixel=per_pixel)
    capacity = MemoryModel(budget, {"fox": profile}).capacity("fox")
    assert capacity is not None
    if capacity:
        assert 5 + profile.run(capacity) <= budget + 1
    assert 5 + profile.run(capacity + 2) > budget - 1


def test_what_was_never_measured_is_taken_to_fit() -> None:
    memory = MemoryModel(1, {})
    assert (memory.run("fox", 10**9), memory.weights("fox"), memory.capacities) == (0, 0, {})


def test_free_memory_is_what_this_machine_could_have() -> None:
    assert 64 * MIB < free_memory(torch.device("cpu")) < 2**50


def test_profiles_are_kept_by_kind_of_device(catalog: Path, tmp_path: Path) -> None:
    cpu = Profile(device="cpu", dtype="float32", weights=1, fixed=2, per_pixel=3)
    gpu = cpu.model_copy(update={"device": "cuda", "dtype": "float16"})
    profiles = Profiles().replacing(cpu).replacing(gpu).replacing(cpu)
    assert len(profiles.profiles) == 2
    path = profile_path(tmp_path / "catalog.json", "tiny")
    path.parent.mkdir()
    path.write_text(profiles.model_dump_json())
    models = Catalog.model_validate_json(catalog.read_text())
    found = load_profiles(tmp_path / "catalog.json", models, torch.device("cpu"), torch.float32)
    assert found == {"tiny": cpu}


@pytest.fixture
def measured_catalog(catalog: Path, tmp_path: Path) -> Path:
    """The catalogue with profiles: each model takes 10 MiB, and a run 1 KiB for each pixel."""
    copy = shutil.copytree(catalog.parent, tmp_path / "models")
    profile = Profile(
        device="cpu", dtype="float32", weights=10 * MIB, fixed=0, per_pixel=1024
    ).model_dump()
    (copy / "memory").mkdir()
    for name in ("tiny", "second"):
        text = json.dumps({"profiles": [profile]})
        profile_path(copy / "catalog.json", name).write_text(text)
    return copy / "catalog.json"


@pytest.fixture
def start(measured_catalog: Path, tmp_path: Path):
    """Starts a pipeline process that serves both models in so much memory."""
    processes = []

    def started(budget: int) -> Child:
        settings = child_settings(
            measured_catalog, tmp_path, models=("tiny", "second"), memory_bytes=budget
        )
        environment = {**settings.environment(), "OMP_NUM_THREADS": "1"}
        processes.append(PipelineProcess(PIPELINE_COMMAND, environment))
        return Child(processes[-1], open_store(settings.store))

    yield started
    for process in processes:
        process.kill()


def test_the_least_recently_used_makes_room(
    start: Callable[[int], Child], new_generation: Callable[..., Generation]
) -> None:
    child = start(25 * MIB)
    capacities = {"tiny": 15 * 1024, "second": 15 * 1024}

    def warm(*models: str, loads: int, evictions: int) -> Warm:
        return Warm(models=models, loads=loads, evictions=evictions, capacities=capacities)

    assert child.hear() == warm("second", "tiny", loads=2, evictions=0)
    small = {"width": 64, "height": 64}  # 4 MiB: beside both
    assert child.run(new_generation(model="second", **small))[-1].type == "succeeded"
    large = {"width": 128, "height": 96}  # 12 MiB: the other one has to go
    assert child.run(new_generation(model="tiny", **large))[-1].type == "succeeded"
    assert child.hear() == warm("tiny", loads=2, evictions=1)
    assert child.run(new_generation(model="second", **small))[-1].type == "succeeded"
    assert child.hear() == warm("second", "tiny", loads=3, evictions=1)


def test_only_what_fits_is_loaded_ahead(start: Callable[[int], Child]) -> None:
    message = start(15 * MIB).hear()
    assert isinstance(message, Warm)
    assert (message.models, message.loads, message.evictions) == (("tiny",), 1, 0)
