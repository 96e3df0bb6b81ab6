"""The first run of a pipeline, before anybody waits for it."""

import torch

from hidiffusion.decode import decode_tiles, unscale
from service.domain.requests.request import ResolvedRequest
from service.worker.engines.denoisers import denoiser_of
from service.worker.weights.warm import WarmPipeline


@torch.no_grad()
def warm_up(warm: WarmPipeline) -> None:
    """Make one picture with the model's defaults and throw it away.

    Kernels are chosen, memory pools filled and lazy imports done; a model that cannot make a
    picture shows it here. One small step is enough for that. A compiled model makes a whole picture
    of default size, so that the graph of every stage of its method is there.
    """
    model = warm.model
    if model.kind == "upscaler":
        side = model.min_size
        warm.pipe(torch.zeros(1, 3, side, side), model.scales[0], num_inference_steps=1)
        return
    side, steps = (
        (model.default_size, model.default_steps) if warm.compiled else (model.native_size, 1)
    )
    request = ResolvedRequest(
        prompt="warm up",
        negative_prompt="",
        model=model.name,
        width=side,
        height=side,
        num_inference_steps=steps,
        guidance_scale=model.default_guidance_scale,
        seed=0,
        scheduler=model.default_scheduler,
        method=model.default_method_at(side, side),
        output_format="png",
    )
    latents = denoiser_of(warm)(warm, request, lambda *_, **__: None)
    for _ in decode_tiles(warm.pipe.vae, unscale(warm.pipe.vae, latents)):
        pass
