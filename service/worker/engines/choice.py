"""Which engine a model runs on."""

from collections.abc import Callable

from service.domain.models.catalog import EngineName
from service.worker.engines.engine import Engine
from service.worker.engines.inf_dit import InfDiT
from service.worker.engines.latent_diffusion import LatentDiffusion
from service.worker.weights.warm import WarmPipeline

_ENGINES: dict[EngineName, Callable[[WarmPipeline], Engine]] = {
    "latent-diffusion": LatentDiffusion,
    "dimr": LatentDiffusion,
    "inf-dit": InfDiT,
}


def engine_of(warm: WarmPipeline) -> Engine:
    """The engine of a loaded model."""
    return _ENGINES[warm.model.engine](warm)
