"""Upscaling by Inf-DiT: chunk by chunk, in memory that grows with the shorter side."""

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch.nn import functional

from hidiffusion.inf_dit import HeunState
from hidiffusion.inf_dit.run import Upscaling
from service.domain.requests.request import ResolvedRequest
from service.worker.engines.engine import Job
from service.worker.job.region import Region
from service.worker.job.snapshot import Snapshot
from service.worker.weights.warm import WarmPipeline

#: Blocks along a chunk's side; the second, more frugal try takes the smallest.
CHUNK_BLOCKS, FRUGAL_CHUNK_BLOCKS = 4, 1


class InfDiT:
    """Enlarges the picture `image` of a request by its `scale`.

    Args:
        warm: with an `InfDiTUpscalePipeline`.
    """

    def __init__(self, warm: WarmPipeline) -> None:
        self._pipe = warm.pipe

    def regions(self, job: Job) -> Generator[Region]:
        """Evaluate the network again and again; chunks of the last evaluation are regions."""
        run = self._started(job)
        ticks = _Ticks(job, run)
        last = run.evaluations - 1
        with job.stopwatch.phase("denoise"):
            if job.begin is not None:
                ticks.tell_resumed()
            while run.state.evaluations < last:
                for chunk, clean in run.evaluate():
                    ticks.tell(run.place(chunk), clean)
                ticks.evaluation_done()
        with job.stopwatch.phase("decode"):
            wanted = job.missing(run.chunk_pixels)
            if not wanted:
                return
            # Each is computed, because what follows a chunk is computed from it.
            for chunk, clean in run.evaluate():
                job.attempt.stop_if_cancelled()
                top, left, height, width = run.place(chunk)
                if height and width and (top, left) in wanted:
                    yield Region(top, left, clean[..., :height, :width])

    def steps(self, request: ResolvedRequest) -> int:
        """How many steps it tells of for a request, whose width and height are the result's."""
        block: int = self._pipe.transformer.config.block_size
        rows, columns = (-(-side // block) for side in (request.height, request.width))
        chunks = -(-rows // CHUNK_BLOCKS) * -(-columns // CHUNK_BLOCKS)
        return chunks * 2 * (request.num_inference_steps - 1)

    def _started(self, job: Job) -> Upscaling:
        request, begin = job.request, job.begin
        state = None
        if begin is not None:
            state = HeunState(begin.stage_step, begin.latents, begin.scheduler["slope"])
        run: Upscaling = self._pipe.start(
            job.pictures["image"],
            request.scale or 1,
            num_inference_steps=request.num_inference_steps,
            generator=torch.Generator().manual_seed(request.seed),
            init_noise=True,
            image_embeds=None,
            chunk_blocks=FRUGAL_CHUNK_BLOCKS if job.frugal else CHUNK_BLOCKS,
            rope_wrap=False,
            state_device="cpu" if job.frugal else None,
            begin=state,
        )
        return run


@dataclass
class _Ticks:
    """Tells a job of each chunk, with a small picture of how it looks so far."""

    job: Job
    run: Upscaling

    def __post_init__(self) -> None:
        self._shrink = self.run.patch_pixels
        height, width = (side // self._shrink for side in self.run.state.sample.shape[-2:])
        self._small = torch.zeros(1, 3, height, width)
        self._chunks = self.run.chunks
        # The last evaluation tells of its regions, not of steps.
        self._total = self._chunks * (self.run.evaluations - 1)
        self._done = self.run.state.evaluations * self._chunks

    def tell(self, place: tuple[int, int, int, int], clean: torch.Tensor) -> None:
        """One more chunk is done."""
        self._done += 1
        top, left = (side // self._shrink for side in place[:2])
        part = functional.avg_pool2d(clean.float(), self._shrink).cpu().clamp(-1, 1)
        self._small[..., top : top + part.shape[2], left : left + part.shape[3]] = part
        if self._done % self._chunks:  # the last one of an evaluation is told with its state
            self._step(None)

    def evaluation_done(self) -> None:
        """The state is whole, and can be put aside."""
        self._step(self._snapshot())

    def tell_resumed(self) -> None:
        """Say where an earlier attempt was left."""
        self._step(self.job.begin)

    def _step(self, snapshot: Snapshot | None) -> None:
        left = self._total - self._done
        self.job.on_step(self._done, self._total, self._small, snapshot, left=left)

    def _snapshot(self) -> Snapshot:
        state = self.run.state
        return Snapshot(
            step=self._done,
            stage=0,
            stage_step=state.evaluations,
            latents=state.sample.clone(),
            scheduler={"slope": state.slope.clone()},
            generator=torch.empty(0, dtype=torch.uint8),
            earlier=(),
        )
