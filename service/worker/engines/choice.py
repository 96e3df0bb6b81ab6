"""Which engine a model runs on."""

from service.worker.engines.engine import Engine
from service.worker.engines.latent_diffusion import LatentDiffusion
from service.worker.weights.pipelines import WarmPipeline


def engine_of(warm: WarmPipeline) -> Engine:
    """The engine of a loaded model."""
    return LatentDiffusion(warm)
