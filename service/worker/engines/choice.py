"""Which engine a model runs on."""

from collections.abc import Callable

from service.domain.models.catalog import EngineName
from service.worker.engines.engine import Engine, Upscaler
from service.worker.engines.inf_dit import InfDiT
from service.worker.engines.latent_diffusion import LatentDiffusion
from service.worker.engines.spandrel import OnePass
from service.worker.weights.warm import WarmPipeline

_UPSCALERS: dict[EngineName, Callable[[WarmPipeline], Upscaler]] = {
    "inf-dit": InfDiT,
    "spandrel": OnePass,
}

_ENGINES: dict[EngineName, Callable[[WarmPipeline], Engine]] = {
    "latent-diffusion": LatentDiffusion,
    "dimr": LatentDiffusion,
    **_UPSCALERS,
}


def engine_of(warm: WarmPipeline) -> Engine:
    """The engine of a loaded model."""
    return _ENGINES[warm.model.engine](warm)


def upscaler_of(warm: WarmPipeline) -> Upscaler:
    """The engine of a loaded upscaler."""
    return _UPSCALERS[warm.model.engine](warm)
