"""Generations from their records to their final events."""

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from service import tracing
from service.application.ports import ObjectStore
from service.domain.artifacts import ArtifactKeys, Manifest
from service.domain.generations.events import Cancelled, Failed, Succeeded
from service.domain.generations.generation import Failure
from service.domain.requests.request import ResolvedRequest
from service.settings import WorkerSettings
from service.worker.engines.choice import engine_of, upscaler_of
from service.worker.engines.decoding import decoded
from service.worker.engines.engine import Job
from service.worker.job.attempt import Attempt, CancelSignal
from service.worker.job.checking import Checker
from service.worker.job.failures import (
    device_is_lost,
    failure_of,
    is_out_of_descriptors,
    is_out_of_memory,
    out_of_memory,
)
from service.worker.job.patience import PatientStore
from service.worker.job.region import Missing, Region
from service.worker.job.stopwatch import Stopwatch
from service.worker.result.preview import Previews
from service.worker.result.recipe import recipe_of
from service.worker.result.render import Rendering
from service.worker.run.batch import Drawn, Rows, draw_together
from service.worker.run.checkpoint import Checkpoints, newest_checkpoint
from service.worker.run.finishing import Finishing
from service.worker.run.stages import upscaled
from service.worker.run.steps import Steps
from service.worker.weights.garbage import release_memory
from service.worker.weights.inputs import load_pictures
from service.worker.weights.memory import free_memory
from service.worker.weights.pipelines import Pipelines, needs_of

_log = logging.getLogger(__name__)


class ProcessUnfit(Exception):
    """Nothing can be run in this process any more; another one has to try again."""


class DeviceLost(ProcessUnfit):
    """It cannot use its device; what is drawn can still be stored."""


def unfitness(error: Exception) -> ProcessUnfit | None:
    """What an error says of the whole process, if it does."""
    if device_is_lost(error):
        return DeviceLost(str(error))
    if is_out_of_descriptors(error):
        return ProcessUnfit(f"no more files can be opened: {error}")
    return None


class Studio:
    """Makes pictures on warm pipelines.

    Args:
        pipelines: where the models are.
        store: where results go.
        settings: tiles and previews.
        checker: looks at each picture first; then there are no previews, and no early tiles.
        on_failure: called, on any thread, when a picture that was drawn did not come to an end
            that could be told; `finish` raises why.
    """

    def __init__(
        self,
        pipelines: Pipelines,
        store: ObjectStore,
        settings: WorkerSettings,
        checker: Checker | None = None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._pipelines = pipelines
        self._store = store
        # A preview would show what the checker has not seen yet.
        unseen = {} if checker is None else {"preview_every": 0}
        self._settings = settings.model_copy(update=unseen)
        self._checker = checker
        self._finishing = Finishing(on_failure)

    def run(self, attempts: Sequence[Attempt]) -> None:
        """Run attempts to their end, and tell it as the last event of each.

        As `draw`, but when this returns nothing is left to do.
        """
        self.draw(attempts)
        self.finish()

    def finish(self) -> None:
        """Return when everything that was drawn has come to its end."""
        self._finishing.wait_for_room()

    def draw(self, attempts: Sequence[Attempt]) -> None:
        """Run attempts; return when they need the device no more, and others may be run.

        The last picture may still be encoded and stored then, beside the next one's computing. It
        is told of as the last event of each attempt how it ended.

        Several are denoised as one batch, and decoded one after the other. What runs out of memory
        is tried once more with less of it.

        Args:
            attempts: one, or several of one `batch_key`.

        Raises:
            ProcessUnfit: nothing can be run in this process any more; no last event was told.
        """
        rows = Rows(attempts)
        latents = self._draw_together(rows) if len(attempts) > 1 else {}
        while (attempt := rows.next()) is not None:
            try:
                self._finishing.run(self._run(attempt, latents.pop(attempt.generation.id, None)))
            finally:
                release_memory()

    def _draw_together(self, rows: Rows) -> dict[str, Drawn]:
        """Denoise a batch; what cannot be drawn together is left to be drawn one by one."""
        try:
            first, count = rows.waiting[0].generation, len(rows.waiting)
            with tracing.span("batch", first.trace_context, {"rows": count}):
                return draw_together(rows, self._pipelines, self._store, self._settings)
        except Exception as error:
            if unfit := unfitness(error):
                raise unfit from error
            _log.warning("one by one, because the batch failed: %s", error)
            return {}
        finally:
            release_memory()

    def _run(self, attempt: Attempt, drawn: Drawn | None) -> Generator[None]:
        """One attempt, up to its last event; yields where it needs the device no more."""
        generation = attempt.generation
        with tracing.span("generate", generation.trace_context, tracing.about(generation)):
            try:
                manifest = yield from self._make_somehow(attempt, drawn)
                attempt.tell(Succeeded, manifest=manifest)
            except CancelSignal:
                attempt.tell(Cancelled)
            except ProcessUnfit:
                raise
            except Exception as error:
                if attempt.cancelled() or attempt.suspended():
                    attempt.tell(Cancelled)
                    return
                if unfit := unfitness(error):
                    raise unfit from error
                _log.exception("the attempt failed")
                attempt.tell(Failed, error=self._failure_of(error, generation.request))

    def _make_somehow(
        self, attempt: Attempt, drawn: Drawn | None
    ) -> Generator[None, None, Manifest]:
        # Closed before its end is told: what is put aside then is there for the next attempt.
        with contextlib.closing(self._drawn_somehow(attempt, drawn)) as making:
            self._finishing.wait_for_room(attempt.stop_if_cancelled)
            yield
            return (yield from making)

    def _drawn_somehow(
        self, attempt: Attempt, drawn: Drawn | None
    ) -> Generator[None, None, Manifest]:
        """A picture that is drawn and needs the device no more."""
        making = self._make(attempt, drawn)
        if not _has_memory_to_draw(making):
            request = attempt.generation.request
            self._pipelines.keep_only(request.model, **needs_of(request))
            making = self._make(attempt, frugal=True)
            next(making)
        return making

    def _failure_of(self, error: Exception, request: ResolvedRequest) -> Failure:
        if not is_out_of_memory(error):
            return failure_of(error, self._settings.attention)
        release_memory()
        free = free_memory(self._pipelines.device)
        largest = self._pipelines.memory.fits_now(request.model, free)
        # The model of memory may be wrong, but never so wrong as to recommend what just failed.
        return out_of_memory(error, None if largest is None else min(largest, request.pixels // 2))

    def _make(
        self, attempt: Attempt, drawn: Drawn | None = None, *, frugal: bool = False
    ) -> Generator[None, None, Manifest]:
        """One picture; while it is stored nothing here refers to a model, which may be dropped."""
        attempt.stop_if_cancelled()
        with contextlib.ExitStack() as stack:
            if drawn is None:
                rendering = self._draw_alone(attempt, stack, frugal=frugal)
            else:
                rendering = self._decode(attempt, stack, drawn)
            yield
            manifest = rendering.finish()
        seconds = manifest.recipe["seconds"]
        _log.info("made %dx%d pixels: %s s", manifest.width, manifest.height, seconds)
        return manifest

    def _draw_alone(
        self, attempt: Attempt, stack: contextlib.ExitStack, *, frugal: bool
    ) -> Rendering:
        """Draw; what is open until the picture is stored goes onto the stack."""
        request, stopwatch = attempt.generation.request, Stopwatch()
        patient = PatientStore(self._store, attempt, self._settings.store_wait_seconds)
        with stopwatch.phase("load"):
            warm = self._pipelines.get(request.model, request.pixels, **needs_of(request))
            upscaler = None
            if request.upscale is not None:
                upscaler = self._pipelines.get(request.upscale.model, request.output_pixels)
            pictures = load_pictures(patient, attempt.generation)
        recipe = recipe_of(request, self._pipelines) | ({"low_memory": True} if frugal else {})
        if frugal:  # the first try's checkpoint and tiles belong to another recipe
            self._store.delete_prefix(attempt.keys.checkpoint)
        found = newest_checkpoint(patient, attempt.generation, recipe, self._pipelines.device)
        begin, earlier = (None, None) if found is None else found
        checkpoints = stack.enter_context(
            Checkpoints(attempt, self._store, self._settings, recipe, begin)
        )
        rendering = stack.enter_context(
            self._rendering(attempt, patient, recipe, stopwatch, earlier)
        )
        previews = Previews(attempt, self._store, warm.preview)
        steps = Steps(attempt, previews, checkpoints, self._settings.preview_every)

        def draw(missing: Missing) -> Generator[Region]:
            job = Job(
                attempt,
                request,
                steps,
                previews.settled_before(missing),
                stopwatch,
                pictures=pictures,
                begin=begin,
                frugal=frugal,
            )
            if upscaler is None:
                return engine_of(warm).regions(job)
            second = upscaler_of(upscaler)
            return upscaled(job, engine_of(warm), second, store=patient, earlier=earlier)

        with previews.running():
            rendering.draw(draw)
        return rendering

    def _decode(self, attempt: Attempt, stack: contextlib.ExitStack, drawn: Drawn) -> Rendering:
        """Decode what was denoised in a batch; what is open until it is stored goes likewise."""
        request = attempt.generation.request
        vae = self._pipelines.get(request.model, request.pixels).pipe.vae
        patient = PatientStore(self._store, attempt, self._settings.store_wait_seconds)
        recipe = recipe_of(request, self._pipelines) | {"batch": drawn.rows}
        rendering = stack.enter_context(self._rendering(attempt, patient, recipe, drawn.stopwatch))
        rendering.draw(
            lambda missing: decoded(
                vae, drawn.latents, attempt, missing=missing, stopwatch=drawn.stopwatch
            )
        )
        return rendering

    def _rendering(
        self,
        attempt: Attempt,
        store: ObjectStore,
        recipe: dict[str, Any],
        stopwatch: Stopwatch,
        earlier: ArtifactKeys | None = None,
    ) -> Rendering:
        return Rendering(
            attempt,
            store=store,
            settings=self._settings,
            recipe=recipe,
            stopwatch=stopwatch,
            earlier=earlier,
            checker=self._checker,
        )


def _has_memory_to_draw(making: Iterator[None]) -> bool:
    """Go on to where `making` needs the device no more; False where there is too little memory."""
    try:
        next(making)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _log.warning("out of memory; trying once more with less: %s", error)
        return False
    return True
