"""A generation of two stages: draw, then enlarge, with one progress over both."""

import io
from collections.abc import Container, Generator
from contextlib import closing
from dataclasses import replace

import numpy as np
import PIL.Image
import torch

from service.application.ports import ObjectStore
from service.domain.artifacts import MEDIA_TYPES, ArtifactKeys
from service.domain.requests.request import ResolvedRequest
from service.storage.encode import encode
from service.worker.engines.engine import Engine, Job, OnStep, Upscaler
from service.worker.job.region import Region
from service.worker.job.snapshot import Snapshot


def upscaled(
    job: Job,
    drawer: Engine,
    upscaler: Upscaler,
    *,
    store: ObjectStore,
    earlier: ArtifactKeys | None,
) -> Generator[Region]:
    """Draw the native picture, put it into the store, and yield the regions of the large one.

    Args:
        job: of the whole generation; its request has an `upscale`.
        drawer: draws.
        upscaler: enlarges.
        store: keeps the native picture, which a later attempt enlarges in turn.
        earlier: of the attempt that `job.begin` was left by.
    """
    enlarging = enlarging_request(job.request)
    ticks, begin = upscaler.steps(enlarging), job.begin
    if begin is not None and begin.before is not None and earlier is not None:
        native = PIL.Image.open(io.BytesIO(store.get(earlier.native))).convert("RGB")
        done = begin.before
        second: Snapshot | None = begin
    else:
        counted = _Counted(job.on_step, ticks)
        native = _drawn(replace(job, on_step=counted, missing=lambda _: _All()), drawer)
        done, second = counted.total, None
    data = encode(np.asarray(native), "png")
    store.put(job.attempt.keys.native, data, MEDIA_TYPES["png"])
    yield from upscaler.regions(
        replace(
            job,
            request=enlarging,
            on_step=_after(job.on_step, done),
            pictures={"image": native},
            begin=second,
        )
    )


def enlarging_request(request: ResolvedRequest) -> ResolvedRequest:
    """What the second stage is asked for."""
    chosen = request.upscale
    assert chosen is not None
    return request.model_copy(
        update={
            "model": chosen.model,
            "width": request.output_width,
            "height": request.output_height,
            "scale": chosen.scale,
            "num_inference_steps": chosen.num_inference_steps,
            "upscale": None,
        }
    )


class _All(Container[tuple[int, int]]):
    """Every region is wanted."""

    def __contains__(self, place: object) -> bool:
        return True


class _Counted:
    """Passes the steps of the first stage on, with those of the second in the total."""

    def __init__(self, on_step: OnStep, after: int) -> None:
        self._on_step = on_step
        self._after = after
        self.total = 0

    def __call__(
        self,
        step: int,
        total: int,
        latents: torch.Tensor,
        snapshot: Snapshot | None,
        *,
        left: float,
    ) -> None:
        self.total = total
        all_left = left + self._after
        self._on_step(step, total + self._after, latents, snapshot, left=all_left)


def _after(on_step: OnStep, done: int) -> OnStep:
    """Pass the steps of the second stage on, behind those of the first."""

    def tell(
        step: int,
        total: int,
        latents: torch.Tensor,
        snapshot: Snapshot | None,
        *,
        left: float,
    ) -> None:
        if snapshot is not None:
            snapshot = replace(snapshot, step=done + step, before=done)
        on_step(done + step, done + total, latents, snapshot, left=left)

    return tell


def _drawn(job: Job, drawer: Engine) -> PIL.Image.Image:
    """The whole picture of the first stage."""
    pixels = np.empty((job.request.height, job.request.width, 3), np.uint8)
    with closing(drawer.regions(job)) as regions:
        for region in regions:
            region.put_into(pixels, torch.uint8)
    return PIL.Image.fromarray(pixels)
