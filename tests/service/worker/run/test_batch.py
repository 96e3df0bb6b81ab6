"""Generations drawn as one batch: each has its own steps, picture and end."""

import io
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from service.channel import Cancel, Happened, Run
from service.domain.generations.events import Cancelled, Event, Stepped, Succeeded, status_after
from service.domain.generations.generation import Generation
from service.settings import Settings, WorkerSettings
from service.worker.engines.diffusion import denoise
from service.worker.job.attempt import Attempt
from service.worker.run.batch import Rows
from service.worker.weights.pipelines import Pipelines
from tests.service.worker.conftest import Child

NewGeneration = Callable[..., Generation]
STEPS = 6


@pytest.fixture(scope="module")
def child(start_child: Callable[..., Child]) -> Child:
    child = start_child()
    child.hear()
    return child


@pytest.fixture
def three(new_generation: NewGeneration) -> list[Generation]:
    return [
        new_generation(prompt=prompt, seed=seed, num_inference_steps=STEPS, method="hidiffusion")
        for seed, prompt in enumerate(("a fox", "an owl on a branch", "tea"))
    ]


def _run(
    child: Child, generations: list[Generation], cancel: tuple[int, int] | None = None
) -> list[list[Event]]:
    """Events of each; `cancel` is which one to stop, and after which step."""
    told: dict[str, list[Event]] = defaultdict(list)
    child.process.send(Run(generation=generations[0], mates=tuple(generations[1:])))
    while sum(status_after(events[-1]).final for events in told.values()) < len(generations):
        message = child.hear()
        assert isinstance(message, Happened)
        told[message.generation_id].append(message.event)
        if cancel is not None and isinstance(message.event, Stepped):
            doomed, step = generations[cancel[0]], cancel[1]
            if (message.generation_id, message.event.step) == (doomed.id, step):
                child.process.send(Cancel(generation_id=doomed.id, attempt=doomed.attempt))
    return [told[generation.id] for generation in generations]


def _picture(child: Child, events: list[Event]) -> np.ndarray:
    assert isinstance(events[-1], Succeeded), events[-1]
    data = child.store.get(events[-1].manifest.image.key)
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def _steps(events: list[Event]) -> list[int]:
    return [event.step for event in events if isinstance(event, Stepped)]


def test_each_row_is_the_picture_that_its_seed_gives_alone(
    child: Child, three: list[Generation]
) -> None:
    together = _run(child, three)
    for generation, events in zip(three, together, strict=True):
        alone = child.run(generation.model_copy(update={"id": generation.id + "-alone"}))
        assert _steps(events) == [*range(1, STEPS + 1)]
        assert [event.type for event in events].count("preview") >= 1
        assert np.abs(_picture(child, events) - _picture(child, alone)).max() <= 1
        assert events[-1].manifest.recipe["batch"] == 3
        assert "batch" not in alone[-1].manifest.recipe


def test_one_row_is_cancelled_and_the_others_go_on(child: Child, three: list[Generation]) -> None:
    first, second, third = _run(child, three, cancel=(1, 2))
    assert isinstance(second[-1], Cancelled)
    assert len(_steps(second)) < STEPS
    assert isinstance(first[-1], Succeeded)
    assert isinstance(third[-1], Succeeded)


def test_a_batch_of_cancelled_rows_is_not_computed(child: Child, three: list[Generation]) -> None:
    wanted = [each.model_copy(update={"cancel_requested": True}) for each in three]
    assert [[event.type for event in events] for events in _run(child, wanted)] == [
        ["cancelled"]
    ] * 3


def test_a_row_that_waits_for_its_decode_is_cancelled_at_once(three: list[Generation]) -> None:
    told: list[Event] = []
    stopped: set[str] = set()
    rows = Rows(
        [Attempt(each, told.append, lambda each=each: each.id in stopped) for each in three]
    )
    running = rows.next()
    assert running is not None
    stopped.add(three[2].id)
    running.stop_if_cancelled()
    assert [type(event) for event in told] == [Cancelled]
    assert [attempt.generation.id for attempt in rows.waiting] == [three[1].id]


@pytest.mark.parametrize("method", ["direct", "hidiffusion", "hidiffusion-guided"])
def test_the_model_is_called_once_for_all_rows(
    catalog: Path, three: list[Generation], method: str
) -> None:
    warm = Pipelines(Settings(catalog=catalog, worker=WorkerSettings(device="cpu"))).get("tiny")
    requests = [each.request.model_copy(update={"method": method}) for each in three]
    calls: list[int] = []
    handle = warm.pipe.unet.conv_in.register_forward_hook(
        lambda _module, inputs, _output: calls.append(len(inputs[0]))
    )

    def ignore(*_: object, **__: object) -> None:
        """Let a step pass."""

    together = denoise(warm, requests[0], ignore, mates=requests[1:])
    assert calls == [6] * (STEPS * (2 if method == "hidiffusion-guided" else 1))
    handle.remove()
    for row, request in zip(together, requests, strict=True):
        torch.testing.assert_close(row[None], denoise(warm, request, ignore), rtol=1e-3, atol=1e-3)
