"""A catalogue of tiny models with random weights, and the real pipeline process to run them."""

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from service.application.ports import ObjectStore
from service.channel import Alive, DeviceFree, Happened, Message, Run, Warm
from service.domain.generations.events import Event, status_after
from service.domain.generations.generation import Generation, Status
from service.domain.requests.request import ResolvedRequest
from service.settings import Settings, StoreSettings, WorkerSettings
from service.storage.store import open_store
from service.supervisor.jobs.process import PipelineProcess
from service.supervisor.supervisor import PIPELINE_COMMAND
from tests.hidiffusion.tiny import models as tiny_models

#: Longest a test waits for the process to say something; it takes seconds to import torch.
PATIENCE = 120.0

_ids = count(1)


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models: "tiny" and "second" work, "nan" makes NaNs, "missing" is not there."""
    folder = tmp_path_factory.mktemp("models")
    pipe = tiny_models.sd_pipeline()
    pipe.save_pretrained(folder / "tiny")
    with torch.no_grad():
        pipe.unet.conv_out.weight.fill_(torch.nan)
    pipe.save_pretrained(folder / "nan")
    sources = {"tiny": "tiny", "second": "tiny", "nan": "nan", "missing": "nowhere/at-all"}
    models = [_model(name, source) for name, source in sources.items()]
    path = folder / "catalog.json"
    path.write_text(json.dumps({"models": models}))
    return path


def _model(name: str, source: str) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "source": source,
        "native_size": 64,
        "default_size": 64,
        "default_scheduler": "DDIMScheduler",
        "default_method": "direct",
        "schedulers": ["DDIMScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"],
        "methods": [
            "direct",
            "hidiffusion",
            "raunet",
            "msw-msa",
            "upsample-guidance",
            "diffuse-high",
            "hidiffusion-guided",
            "hidiffusion-refresh",
        ],
    }


@pytest.fixture(scope="session")
def new_generation() -> Callable[..., Generation]:
    """Makes running generations, each with an id of its own; keywords change the request."""
    return _new_generation


def _new_generation(attempt: int = 1, **changes: Any) -> Generation:
    request = {
        "prompt": "a fox",
        "negative_prompt": "",
        "model": "tiny",
        "width": 128,
        "height": 96,
        "num_inference_steps": 4,
        "guidance_scale": 5.0,
        "seed": 7,
        "scheduler": "DDIMScheduler",
        "method": "direct",
        "output_format": "png",
    }
    return Generation(
        id=f"generation-{next(_ids)}",
        status=Status.RUNNING,
        request=ResolvedRequest(**(request | changes)),
        attempt=attempt,
        created_at=datetime.now(UTC),
    )


@dataclass
class Child:
    """A pipeline process as its supervisor sees it, and the store that it writes to."""

    process: PipelineProcess
    store: ObjectStore
    _kept: deque[Message] = field(default_factory=deque)

    def hear(self) -> Message:
        """Its next message; that it lives and that its device is free is passed over."""
        if self._kept:
            return self._kept.popleft()
        while isinstance(message := self._receive(), Alive | DeviceFree):
            pass
        return message

    def events(self) -> Iterator[Event]:
        """Events of a run up to the final one; whatever else it says is left to be heard."""
        final, free, told_of = False, set(), None
        while not (final and told_of in free):
            match message := self._receive():
                case Happened(event=event):
                    told_of = message.generation_id
                    yield event
                    final = final or status_after(event).final
                case DeviceFree():
                    free.add(message.generation_id)
                case Warm():
                    self._kept.append(message)

    def _receive(self) -> Message:
        message = self.process.receive(PATIENCE)
        assert message is not None, "the process says nothing"
        return message

    def run(self, generation: Generation) -> list[Event]:
        """Run a generation to its end."""
        self.process.send(Run(generation=generation))
        return [*self.events()]


@pytest.fixture(scope="session")
def start_child(
    catalog: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Child]]:
    """Starts pipeline processes; they are killed at the end of the run."""
    with children(catalog, tmp_path_factory) as start:
        yield start


@contextmanager
def children(
    catalog: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Child]]:
    """Starts pipeline processes on a catalogue; they are killed at the end of the block."""
    started = []

    def start(store: StoreSettings | None = None, **worker: Any) -> Child:
        settings = child_settings(catalog, tmp_path_factory.mktemp("store"), store, **worker)
        environment = {**settings.environment(), "OMP_NUM_THREADS": "1"}
        child = Child(PipelineProcess(PIPELINE_COMMAND, environment), open_store(settings.store))
        started.append(child)
        return child

    yield start
    for child in started:
        child.process.kill()


def child_settings(
    catalog: Path, folder: Path, store: StoreSettings | None = None, **worker: Any
) -> Settings:
    """Settings of a pipeline process that writes to `folder`, or to another store."""
    return Settings(
        catalog=catalog,
        store=store or StoreSettings(url=folder.as_uri()),
        worker=WorkerSettings(
            **{"models": ("tiny",), "device": "cpu", "tile_size": 32, "preview_every": 2} | worker
        ),
    )
