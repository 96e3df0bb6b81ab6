"""Words or classes to picture by latent diffusion: a pipeline, and the exact tiled decoder."""

from collections.abc import Generator
from contextlib import nullcontext

from service.worker.engines.decoding import decoded
from service.worker.engines.denoisers import denoiser_of
from service.worker.engines.engine import Job
from service.worker.job.region import Region
from service.worker.weights.frugal import frugal_denoising, parked
from service.worker.weights.warm import WarmPipeline


class LatentDiffusion:
    """Draws with a warm pipeline.

    Args:
        warm: with what the request's controls and image prompt need.
    """

    def __init__(self, warm: WarmPipeline) -> None:
        self._warm = warm

    def regions(self, job: Job) -> Generator[Region]:
        """Denoise the latents, then decode them region by region."""
        pipe = self._warm.pipe
        with (
            job.stopwatch.phase("denoise"),
            frugal_denoising(pipe) if job.frugal else nullcontext(),
        ):
            latents = denoiser_of(self._warm)(
                self._warm,
                job.request,
                job.on_step,
                job.begin,
                alive=job.attempt.stop_if_cancelled,
                pictures=job.pictures,
            )
        with parked(self._warm.network) if job.frugal else nullcontext():
            yield from decoded(
                pipe.vae,
                latents,
                job.attempt,
                missing=job.missing,
                stopwatch=job.stopwatch,
                pictures=job.pictures,
                frugal=job.frugal,
            )
