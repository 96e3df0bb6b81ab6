"""One generation from its record to its final event."""

import logging
import time
from contextlib import nullcontext

import torch

from service.application.ports import ObjectStore
from service.domain.artifacts import Manifest
from service.domain.events import Cancelled, Failed, Stepped, Succeeded
from service.domain.generation import Failure, ResolvedRequest
from service.settings import WorkerSettings
from service.worker.attempt import Attempt, CancelSignal
from service.worker.checkpoint import Checkpoints, newest_checkpoint
from service.worker.denoise import denoise
from service.worker.failures import device_is_lost, failure_of, is_out_of_memory, out_of_memory
from service.worker.frugal import frugal_denoising, parked
from service.worker.inputs import Pictures, load_pictures
from service.worker.memory import free_memory
from service.worker.patience import PatientStore
from service.worker.pipelines import Pipelines, WarmPipeline, release_memory
from service.worker.preview import Previews
from service.worker.recipe import recipe_of
from service.worker.render import render
from service.worker.snapshot import Snapshot
from service.worker.stopwatch import Stopwatch

_log = logging.getLogger(__name__)


class DeviceLost(Exception):
    """The process cannot use its device any more; another process has to try again."""


class Studio:
    """Makes pictures, one at a time, on warm pipelines.

    Args:
        pipelines: where the models are.
        store: where results go.
        settings: tiles and previews.
    """

    def __init__(self, pipelines: Pipelines, store: ObjectStore, settings: WorkerSettings) -> None:
        self._pipelines = pipelines
        self._store = store
        self._settings = settings

    def run(self, attempt: Attempt) -> None:
        """Run an attempt to its end, and tell it as the attempt's last event.

        What runs out of memory is tried once more with less of it.

        Raises:
            DeviceLost: nothing can be run in this process any more; no last event was told.
        """
        try:
            attempt.tell(Succeeded, manifest=self._make_somehow(attempt))
        except CancelSignal:
            attempt.tell(Cancelled)
        except Exception as error:
            if attempt.cancelled() or attempt.suspended():
                attempt.tell(Cancelled)
                return
            if device_is_lost(error):
                raise DeviceLost(str(error)) from error
            _log.exception("the attempt failed")
            attempt.tell(Failed, error=self._failure_of(error, attempt.generation.request))
        finally:
            release_memory()

    def _make_somehow(self, attempt: Attempt) -> Manifest:
        try:
            return self._make(attempt)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            _log.warning("out of memory; trying once more with less: %s", error)
        self._pipelines.keep_only(attempt.generation.request.model)
        return self._make(attempt, frugal=True)

    def _failure_of(self, error: Exception, request: ResolvedRequest) -> Failure:
        if not is_out_of_memory(error):
            return failure_of(error)
        release_memory()
        free = free_memory(self._pipelines.device)
        largest = self._pipelines.memory.fits_now(request.model, free)
        # The model of memory may be wrong, but never so wrong as to recommend what just failed.
        return out_of_memory(error, None if largest is None else min(largest, request.pixels // 2))

    def _make(self, attempt: Attempt, *, frugal: bool = False) -> Manifest:
        request, stopwatch = attempt.generation.request, Stopwatch()
        attempt.stop_if_cancelled()
        patient = PatientStore(self._store, attempt, self._settings.store_wait_seconds)
        with stopwatch.phase("load"):
            warm = self._pipelines.get(request.model, request.pixels)
            pictures = load_pictures(patient, attempt.generation)
        recipe = recipe_of(request, self._pipelines) | ({"low_memory": True} if frugal else {})
        begin = newest_checkpoint(patient, attempt.generation, recipe, self._pipelines.device)
        with Checkpoints(attempt, self._store, self._settings, recipe, begin) as checkpoints:
            with frugal_denoising(warm.pipe) if frugal else nullcontext():
                latents = self._denoise(
                    attempt,
                    warm,
                    pictures,
                    begin=begin,
                    checkpoints=checkpoints,
                    stopwatch=stopwatch,
                )
            with parked(warm.pipe.unet) if frugal else nullcontext():
                manifest = render(
                    warm.pipe.vae,
                    latents,
                    attempt,
                    store=patient,
                    settings=self._settings,
                    recipe=recipe,
                    stopwatch=stopwatch,
                    pictures=pictures,
                    frugal=frugal,
                )
        _log.info("made %dx%d pixels: %s s", request.width, request.height, stopwatch.seconds)
        return manifest

    def _denoise(
        self,
        attempt: Attempt,
        warm: WarmPipeline,
        pictures: Pictures,
        *,
        begin: Snapshot | None,
        checkpoints: Checkpoints,
        stopwatch: Stopwatch,
    ) -> torch.Tensor:
        previews = Previews(attempt, self._store, warm.preview)
        with stopwatch.phase("denoise"), previews.running():
            steps = _Steps(attempt, previews, checkpoints, self._settings.preview_every)
            request = attempt.generation.request
            alive = attempt.stop_if_cancelled
            return denoise(warm, request, steps, begin, alive=alive, pictures=pictures)


class _Steps:
    """Hears of each step: puts it aside, cancels, reports, and shows previews."""

    def __init__(
        self,
        attempt: Attempt,
        previews: Previews,
        checkpoints: Checkpoints,
        preview_every: int,
    ) -> None:
        self._attempt = attempt
        self._previews = previews
        self._checkpoints = checkpoints
        self._preview_every = preview_every
        self._begin = time.perf_counter()
        self._taken = 0

    def __call__(
        self,
        step: int,
        total: int,
        latents: torch.Tensor,
        snapshot: Snapshot | None,
        *,
        left: float,
    ) -> None:
        if snapshot is not None:
            self._checkpoints.offer(snapshot, last=step == total)
        self._attempt.stop_if_cancelled()
        self._taken += 1
        spent = time.perf_counter() - self._begin
        eta = round(spent / self._taken * left, 3)
        self._attempt.tell(Stepped, step=step, total=total, eta_seconds=eta)
        if self._preview_every and step == total:
            self._previews.show_last(step, latents)
        elif self._preview_every and step % self._preview_every == 0:
            self._previews.show(step, latents)
