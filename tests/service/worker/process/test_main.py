"""The real pipeline process over its channel, with tiny models."""

import contextlib
import io
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from service.channel import Cancel, ChannelClosed, Happened, Run, Stop, Warm
from service.domain.artifacts import ArtifactKeys, Manifest
from service.domain.generations.events import Cancelled, Event, Failed, Stepped, Succeeded
from service.domain.generations.generation import Generation
from service.settings import StoreSettings
from service.storage.manifests import read_manifest
from tests.s3_server import ACCESS_KEY_ID, SECRET_ACCESS_KEY, s3_server
from tests.service.worker.conftest import Child, child_settings

NewGeneration = Callable[..., Generation]


@pytest.fixture(scope="module")
def child(start_child: Callable[..., Child]) -> Child:
    """A process that has "tiny" warm."""
    child = start_child()
    assert child.hear() == Warm(models=("tiny",), loads=1)
    return child


def _manifest(events: list[Event]) -> Manifest:
    assert isinstance(events[-1], Succeeded), events[-1]
    return events[-1].manifest


def _first(events: list[Event], kind: str) -> Event:
    return next(event for event in events if event.type == kind)


def _picture(child: Child, key: str) -> np.ndarray:
    return _pixels(child.store.get(key))


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_events_come_in_order_and_tiles_make_the_picture(
    child: Child, new_generation: NewGeneration
) -> None:
    generation = new_generation(attempt=3)
    events = child.run(generation)

    told = [event.type for event in events if event.type != "preview"]
    assert [kind for kind, _ in itertools.groupby(told)] == ["step", "tile", "succeeded"]
    assert "preview" not in [event.type for event in events[events.index(_first(events, "tile")) :]]
    assert {event.attempt for event in events} == {3}
    steps = [event for event in events if event.type == "step"]
    assert [(step.step, step.total) for step in steps] == [(n, 4) for n in (1, 2, 3, 4)]
    assert steps[-1].eta_seconds == 0
    previews = [event for event in events if event.type == "preview"]
    # After the last step there is always one; the one before may be left out.
    assert {preview.step for preview in previews} in ({2, 4}, {4})
    assert (previews[-1].height, previews[-1].width) == (192, 256)
    for preview in previews:
        assert _picture(child, preview.key).shape == (preview.height, preview.width, 3)

    tiles = [event for event in events if event.type == "tile"]
    assert [tile.done for tile in tiles] == [*range(1, len(tiles) + 1)]
    assert {tile.total for tile in tiles} == {len(tiles)}
    manifest = _manifest(events)
    last = manifest.pyramid.levels[-1]
    canvas = np.zeros((96, 128, 3), np.uint8)
    for tile in [event.tile for event in tiles if event.tile.level == last.level]:
        pixels = _picture(child, tile.key)
        canvas[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = pixels
    assert np.array_equal(canvas, _picture(child, manifest.image.key))
    assert canvas.std() > 1

    assert read_manifest(child.store, generation.id, 3) == manifest
    keys = {manifest.image.key, manifest.thumbnail.key, *(tile.tile.key for tile in tiles)}
    keys |= {preview.key for preview in previews}
    keys.add(ArtifactKeys(generation.id, 3).manifest)
    assert set(child.store.keys(f"generations/{generation.id}/")) == keys


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    child: Child, new_generation: NewGeneration
) -> None:
    for scheduler in ("DDIMScheduler", "EulerAncestralDiscreteScheduler"):
        manifests = [
            _manifest(child.run(new_generation(seed=seed, scheduler=scheduler)))
            for seed in (11, 11, 12)
        ]
        first, again, other = (child.store.get(manifest.image.key) for manifest in manifests)
        assert first == again
        assert not np.array_equal(_pixels(first), _pixels(other))
        assert manifests[0].image.sha256 == manifests[1].image.sha256


def test_the_png_carries_its_recipe(child: Child, new_generation: NewGeneration) -> None:
    generation = new_generation(prompt="狐狸 in the snow", negative_prompt="blurry")
    manifest = _manifest(child.run(generation))
    text = Image.open(io.BytesIO(child.store.get(manifest.image.key))).text  # type: ignore[attr-defined]
    assert text["parameters"].splitlines() == [
        "狐狸 in the snow",
        "Negative prompt: blurry",
        "Steps: 4, Sampler: DDIM, CFG scale: 5, Seed: 7, Size: 128x96, Model: tiny, Method: direct",
    ]
    recipe = json.loads(text["hidiffusion"])
    assert recipe["request"] == generation.request.model_dump()
    assert manifest.recipe == recipe | {"seconds": manifest.recipe["seconds"]}
    assert set(manifest.recipe["seconds"]) == {"load", "denoise", "decode", "encode"}
    assert {"torch", "diffusers"} <= set(recipe["libraries"])


@pytest.mark.parametrize("output_format", ["webp", "jpeg", "avif"])
def test_other_formats(child: Child, new_generation: NewGeneration, output_format: str) -> None:
    generation = new_generation(output_format=output_format, quality=90)
    manifest = _manifest(child.run(generation))
    assert manifest.image.media_type == f"image/{output_format}"
    image = Image.open(io.BytesIO(child.store.get(manifest.image.key)))
    assert (image.format, image.size) == (output_format.upper(), (128, 96))
    comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment.removeprefix(b"UNICODE\0").decode("utf-16-be").startswith("a fox\nSteps: 4")
    (recipe,) = ElementTree.fromstring(image.info["xmp"]).iter("{urn:hidiffusion:1.0/}recipe")
    assert json.loads(recipe.text or "")["request"] == generation.request.model_dump()


@pytest.mark.parametrize("method", ["hidiffusion", "raunet", "msw-msa"])
def test_methods_change_large_pictures_and_leave_no_trace(
    child: Child, new_generation: NewGeneration, method: str
) -> None:
    large = {"width": 128, "height": 128}
    before, patched, after = (
        _picture(child, _manifest(child.run(new_generation(method=name, **large))).image.key)
        for name in ("direct", method, "direct")
    )
    assert np.array_equal(before, after)
    assert not np.array_equal(before, patched)


def test_a_second_order_scheduler_reports_every_call(
    child: Child, new_generation: NewGeneration
) -> None:
    events = child.run(new_generation(scheduler="HeunDiscreteScheduler"))
    steps = [event for event in events if isinstance(event, Stepped)]
    assert [step.step for step in steps] == [*range(1, steps[0].total + 1)]
    assert _manifest(events)


def test_cancel_stops_the_denoising(child: Child, new_generation: NewGeneration) -> None:
    generation = new_generation(num_inference_steps=150)
    child.process.send(Run(generation=generation))
    events = child.events()
    assert next(events).type == "step"
    child.process.send(Cancel(generation_id=generation.id, attempt=99))
    child.process.send(Cancel(generation_id=generation.id, attempt=1))
    rest = [*events]
    assert isinstance(rest[-1], Cancelled)
    assert len(rest) < 150
    with pytest.raises(Exception, match="nothing is stored"):
        read_manifest(child.store, generation.id, 1)
    assert _manifest(child.run(new_generation()))


def test_a_cancel_that_comes_before_the_run_begins_counts(
    child: Child, new_generation: NewGeneration
) -> None:
    first, second = new_generation(num_inference_steps=20), new_generation()
    child.process.send(Run(generation=first))
    child.process.send(Run(generation=second))
    child.process.send(Cancel(generation_id=second.id, attempt=1))
    told: dict[str, list[str]] = {first.id: [], second.id: []}
    while not (told[first.id][-1:] == ["succeeded"] and told[second.id]):
        message = child.hear()
        assert isinstance(message, Happened)
        told[message.generation_id].append(message.event.type)
    assert told[second.id] == ["cancelled"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "missing"}, "MODEL_UNAVAILABLE"),
        ({"model": "unheard-of"}, "UNSUPPORTED_REQUEST"),
        ({"scheduler": "UNet2DModel"}, "UNSUPPORTED_REQUEST"),
        ({"method": "unheard-of"}, "UNSUPPORTED_REQUEST"),
        ({"model": "nan"}, "NON_FINITE_LATENTS"),
        ({"width": 129}, "UNSUPPORTED_REQUEST"),
    ],
)
def test_failures_have_reasons_and_leave_the_process_usable(
    child: Child, new_generation: NewGeneration, changes: dict[str, object], reason: str
) -> None:
    generation = new_generation(**changes)
    failed = child.run(generation)[-1]
    assert isinstance(failed, Failed)
    assert failed.error.reason == reason
    assert not failed.error.retryable
    assert f"generations/{generation.id}/1/manifest.json" not in child.store.keys("generations/")
    assert _manifest(child.run(new_generation()))


@pytest.mark.parametrize("spare", [0, 2])
def test_a_process_that_can_open_no_more_files_makes_way_for_another(
    start_child: Callable[..., Child], new_generation: NewGeneration, spare: int
) -> None:
    child = start_child(preload=False)
    child.hear()
    pid = child.process.pid
    taken = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    free = (number for number in itertools.count() if number not in taken)
    limit = next(itertools.islice(free, spare, None))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, 1024))
    child.process.send(Run(generation=new_generation()))
    told: list[str] = []
    with contextlib.suppress(ChannelClosed):
        told.extend(event.type for event in child.events())
    assert "failed" not in told
    if told[-1:] != ["succeeded"]:
        assert child.process.bury() != "the pipeline process ended with exit code 0"


def test_signals_to_the_group_are_left_to_the_supervisor(
    child: Child, new_generation: NewGeneration
) -> None:
    child.process.send(Run(generation=new_generation(num_inference_steps=20)))
    events = child.events()
    next(events)
    os.kill(child.process.pid, signal.SIGTERM)
    os.kill(child.process.pid, signal.SIGINT)
    assert [*events][-1].type == "succeeded"


@pytest.fixture
def s3_settings() -> Iterator[StoreSettings]:
    with s3_server() as server:
        server.create_bucket("pictures")
        yield StoreSettings(
            url="s3://pictures/all",
            endpoint=server.endpoint,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SecretStr(SECRET_ACCESS_KEY),
        )


def test_models_are_loaded_once_results_go_to_s3_and_stop_lets_the_run_finish(
    start_child: Callable[..., Child], new_generation: NewGeneration, s3_settings: StoreSettings
) -> None:
    child = start_child(s3_settings, preload=False)
    assert child.hear() == Warm(models=(), loads=0)
    first = _manifest(child.run(new_generation()))
    assert child.hear() == Warm(models=("tiny",), loads=1)
    second = _manifest(child.run(new_generation()))
    assert child.store.get(first.image.key) == child.store.get(second.image.key)
    child.run(new_generation(model="second"))
    assert child.hear() == Warm(models=("second", "tiny"), loads=2)

    child.process.send(Run(generation=new_generation(num_inference_steps=20)))
    child.process.send(Stop())
    assert [*child.events()][-1].type == "succeeded"
    with pytest.raises(ChannelClosed):
        child.hear()
    assert child.process.bury().endswith("exit code 0")


_PARENT = """
import sys, time
from service.channel import Run
from service.domain.generations.generation import Generation
from service.supervisor.jobs.process import PipelineProcess
from service.supervisor.supervisor import PIPELINE_COMMAND

process = PipelineProcess(PIPELINE_COMMAND, {})
process.receive(120.0)
process.send(Run(generation=Generation.model_validate_json(sys.argv[1])))
process.receive(120.0)
print(process.pid, flush=True)
time.sleep(600)
"""


def test_a_child_whose_parent_is_killed_exits_in_the_middle_of_a_run(
    catalog: Path, tmp_path: Path, new_generation: NewGeneration
) -> None:
    settings = child_settings(catalog, tmp_path, preload=False)
    generation = new_generation(num_inference_steps=150, width=256, height=256)
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, generation.model_dump_json()],
        env={**os.environ, **settings.environment(), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while _is_alive(pid):
        assert time.monotonic() < deadline, "the orphan still runs"
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


#: A pipeline process whose supervisor is a thread of its own; prints what is left to collect.
_COLLECTED = """
import gc, os, threading
from service.channel import Channel, Warm, pair
from service.settings import Settings
from service.worker.process.server import PipelineServer

ours, theirs = pair()
server = PipelineServer(Channel(theirs), Settings())
threading.Thread(target=server.serve, daemon=True).start()
while not isinstance(ours.receive(), Warm):
    pass
print(gc.get_freeze_count(), len(gc.get_objects()), flush=True)
os._exit(0)
"""


def test_the_collector_passes_over_what_is_loaded(catalog: Path, tmp_path: Path) -> None:
    environment = child_settings(catalog, tmp_path).environment()
    told = subprocess.run(
        [sys.executable, "-c", _COLLECTED],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    aside, left = map(int, told.split())
    assert aside > 100 * left
