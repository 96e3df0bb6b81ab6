"""Attempts that are drawn as one batch: denoised together, then decoded one by one.

Noise, shifts and everything else that is drawn at random come from each row's own seed, so a row is
the picture that its seed gives alone, but for rounding: a matrix product adds up in another order
when it has more rows (ADR 0063).
"""

import contextlib
import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from service.application.ports import ObjectStore
from service.domain.generations.events import Cancelled
from service.settings import WorkerSettings
from service.worker.engines.denoisers import denoiser_of
from service.worker.job.attempt import Attempt, CancelSignal
from service.worker.job.snapshot import Snapshot
from service.worker.job.stopwatch import Stopwatch
from service.worker.result.preview import Previews
from service.worker.run.steps import Steps
from service.worker.weights.pipelines import Pipelines


class Rows:
    """The attempts of a batch that still wait for something; each may be cancelled meanwhile.

    Threads may ask: those that bring one picture to its end look after the others, too.

    Args:
        attempts: in the order in which they are decoded.
    """

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self._waiting = list(attempts)
        self._dropping = threading.RLock()

    @property
    def waiting(self) -> tuple[Attempt, ...]:
        """Those that nobody has stopped."""
        return tuple(self._waiting)

    def next(self) -> Attempt | None:
        """The next one, to be run to its end; while it runs, the others can be cancelled."""
        with self._dropping:
            self.drop_stopped()
            if not self._waiting:
                return None
            attempt = self._waiting.pop(0)

        def cancelled() -> bool:
            self.drop_stopped()
            return attempt.cancelled()

        return replace(attempt, cancelled=cancelled)

    def drop_stopped(self) -> None:
        """Tell the end of those that were stopped."""
        with self._dropping:
            for attempt in self.waiting:
                try:
                    attempt.stop_if_cancelled()
                except CancelSignal:
                    self._waiting.remove(attempt)
                    attempt.tell(Cancelled)

    def stop_if_none_waits(self) -> None:
        """Raise `CancelSignal` once all were stopped."""
        self.drop_stopped()
        if not self._waiting:
            raise CancelSignal


@dataclass(frozen=True)
class Drawn:
    """A row of a batch, denoised.

    Attributes:
        latents: `[1, C, h, w]`.
        rows: how many the batch had.
        stopwatch: has counted the time of the whole batch.
    """

    latents: torch.Tensor
    rows: int
    stopwatch: Stopwatch


def draw_together(
    rows: Rows, pipelines: Pipelines, store: ObjectStore, settings: WorkerSettings
) -> dict[str, Drawn]:
    """Denoise all rows, and tell each its own steps and previews.

    A row that is stopped is told so at once and computed on with the others, unseen.

    Returns:
        What was drawn, by the id of its generation; nothing, where all were stopped.
    """
    attempts, stopwatch = rows.waiting, Stopwatch()
    requests = [attempt.generation.request for attempt in attempts]
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(CancelSignal))
        with stopwatch.phase("load"):
            pixels = sum(request.pixels for request in requests)
            warm = pipelines.get(requests[0].model, pixels)
        hearers = []
        for attempt in attempts:
            previews = stack.enter_context(Previews(attempt, store, warm.preview).running())
            context = attempt.generation.trace_context
            hearers.append(Steps(attempt, previews, None, settings.preview_every, context))

        def on_step(
            step: int,
            total: int,
            latents: torch.Tensor,
            snapshot: Snapshot | None,
            *,
            left: float,
        ) -> None:
            rows.stop_if_none_waits()
            for number, (attempt, hearer) in enumerate(zip(attempts, hearers, strict=True)):
                if attempt in rows.waiting:
                    with contextlib.suppress(CancelSignal):  # told at the next look
                        hearer(step, total, latents[number : number + 1], snapshot, left=left)

        with stopwatch.phase("denoise"):
            latents = denoiser_of(warm)(
                warm, requests[0], on_step, mates=requests[1:], alive=rows.stop_if_none_waits
            )
        return {
            attempt.generation.id: Drawn(
                latents[number : number + 1], len(attempts), copy.deepcopy(stopwatch)
            )
            for number, attempt in enumerate(attempts)
        }
    return {}
