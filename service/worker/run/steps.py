"""What an attempt does after each of its denoising steps."""

import time
from collections.abc import Mapping

import torch

from service.domain.generations.events import Stepped
from service.tracing import Laps
from service.worker.job.attempt import Attempt
from service.worker.job.snapshot import Snapshot
from service.worker.result.preview import Previews
from service.worker.run.checkpoint import Checkpoints


class Steps:
    """Hears of each step: puts it aside, cancels, reports, and shows previews.

    Args:
        attempt: whose steps they are.
        previews: of the attempt.
        checkpoints: of the attempt; None: nothing is put aside.
        preview_every: steps between previews; 0: none.
        within: the trace context that the steps belong to; None: the current one.
    """

    def __init__(
        self,
        attempt: Attempt,
        previews: Previews,
        checkpoints: Checkpoints | None,
        preview_every: int,
        within: Mapping[str, str] | None = None,
    ) -> None:
        self._attempt = attempt
        self._previews = previews
        self._checkpoints = checkpoints
        self._preview_every = preview_every
        self._begin = time.perf_counter()
        self._laps = Laps(within)
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
        self._laps.record("step", {"step": step, "total": total})
        if snapshot is not None and self._checkpoints is not None:
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
