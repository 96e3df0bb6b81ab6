"""What makes the latents, for each engine that draws by latent diffusion."""

from typing import Any

from service.domain.models.catalog import EngineName
from service.worker.engines.classes import draw_classes
from service.worker.engines.diffusion import denoise
from service.worker.weights.warm import WarmPipeline

_DENOISERS: dict[EngineName, Any] = {"latent-diffusion": denoise, "dimr": draw_classes}


def denoiser_of(warm: WarmPipeline) -> Any:
    """A function called as `service.worker.engines.diffusion.denoise`."""
    return _DENOISERS[warm.model.engine]
