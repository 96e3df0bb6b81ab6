"""One loaded pipeline: what it holds, and how it is loaded."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import nn

from hidiffusion.decode import PreviewFactors, fit_preview, known_preview
from hidiffusion.decode.autoencoder import require_kind
from hidiffusion.dimr import DiMRPipeline, DPMSolverFastScheduler
from hidiffusion.inf_dit import InfDiTUpscalePipeline
from service.domain.models.catalog import EngineName, Model
from service.domain.models.low_memory import device_trouble, package_trouble
from service.domain.models.schedulers import class_of, settings_of
from service.worker.job.failures import ModelUnavailable, UnsupportedRequest
from service.worker.weights.attention import use_attention
from service.worker.weights.compiling import compile_denoiser
from service.worker.weights.devices import place
from service.worker.weights.enlarger import load_enlarger
from service.worker.weights.image_prompts import WarmIpAdapter
from service.worker.weights.loading import load_pipeline

_log = logging.getLogger(__name__)

#: A model folder may bring its own preview map; `python -m hidiffusion.decode` writes it.
_PREVIEW_FILE = "preview.json"

#: What reads the weights that each engine runs.
_LOADERS: dict[EngineName, Any] = {
    "latent-diffusion": diffusers.DiffusionPipeline,
    "inf-dit": InfDiTUpscalePipeline,
    "dimr": DiMRPipeline,
}


@dataclass(frozen=True)
class WarmPipeline:
    """A loaded pipeline and what is needed to use it again and again.

    Attributes:
        model: its entry in the catalogue.
        pipe: a diffusers pipeline of its kind, or an `Enlarger`, on its device; one run at a time.
        scheduler_config: of the scheduler that came with the model.
        preview: the map from its latents to a small picture; None where it works on pixels.
        compiled: whether its network is compiled.
        controlnets: those that its next run is guided by, in their order.
        ip_adapter: what lets its next run take a picture as a prompt.
    """

    model: Model
    pipe: Any
    scheduler_config: dict[str, Any]
    preview: PreviewFactors | None
    compiled: bool = False
    controlnets: tuple[Any, ...] = ()
    ip_adapter: WarmIpAdapter | None = None

    @property
    def weights(self) -> int:
        """Bytes of all its parameters, as they are stored."""
        modules = modules_of(self.pipe)
        return sum(stored_bytes(weight) for module in modules for weight in module.parameters())

    @property
    def network(self) -> nn.Module:
        """What estimates the noise."""
        return network_of(self.pipe)

    def use_scheduler(self, name: str) -> None:
        """Give the pipeline a fresh scheduler: of diffusers or DiMR's, with variants or without.

        Raises:
            UnsupportedRequest: diffusers has no such class, or it does not fit the model.
        """
        own = {DPMSolverFastScheduler.__name__: DPMSolverFastScheduler}
        kind = own.get(name) or getattr(diffusers, class_of(name), None)
        if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
            raise UnsupportedRequest(
                f"scheduler {name!r} is no scheduler class of diffusers {diffusers.__version__}; "
                f"use one of {', '.join(self.model.schedulers)}"
            )
        build: Any = kind.from_config
        changes = self.model.scheduler_config | settings_of(name)
        self.pipe.scheduler = build(self.scheduler_config, **changes)


def load_warm(
    model: Model,
    device: torch.device,
    dtype: torch.dtype,
    backend: str | None,
    attention: str | None,
) -> WarmPipeline:
    """Load a model's pipeline and make it ready for runs.

    Args:
        model: its entry in the catalogue.
        device: where it shall run.
        dtype: of its weights; an autoencoder that would overflow float16 gets float32.
        backend: compiles its network; None leaves it as it is, and so does offloading.
        attention: computes its network's attention; None: the network itself.

    Raises:
        ModelUnavailable: it cannot be loaded here as its entry asks.
    """
    require_loadable(model, device)
    _log.info("loading %s from %s", model.name, model.source)
    if model.engine == "spandrel":
        return WarmPipeline(model, load_enlarger(model, device, dtype), {}, None)
    if model.engine == "latent-diffusion":
        pipe = load_pipeline(model, dtype)
        require_kind(pipe.vae)
    else:
        loader: Any = _LOADERS[model.engine]
        local = Path(model.source).is_dir()
        pipe = loader.from_pretrained(model.source, dtype=dtype, local_files_only=local)
    place(pipe, device, model.offload)
    # Torch multiplies in another order where a weight could be learned, and the first LoRA
    # freezes what it acts on: frozen from the start, the rounding never changes.
    for module in modules_of(pipe):
        module.requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    if model.kind == "upscaler":
        return WarmPipeline(model, pipe, {}, None)
    if dtype is torch.float16 and pipe.vae.config.get("force_upcast"):
        pipe.vae.to(torch.float32)
    use_attention(network_of(pipe), attention)
    compiled = backend is not None and model.offload is None
    if backend is not None and compiled:
        compile_denoiser(network_of(pipe), backend)
    scheduler, preview = dict(pipe.scheduler.config), _preview(model, pipe.vae)
    return WarmPipeline(model, pipe, scheduler, preview, compiled=compiled)


def require_loadable(model: Model, device: torch.device) -> None:
    """Refuse what this worker's packages or device cannot do of an entry's loading.

    Raises:
        ModelUnavailable: it cannot.
    """
    missing = None if model.quantization is None else package_trouble(model.quantization)
    wrong = missing or device_trouble(model.quantization, model.offload, device.type)
    if wrong is not None:
        what, remedy = f"model {model.name!r}", "or change its entry in the catalogue"
        raise ModelUnavailable(what, model.source, ValueError(wrong), remedy)


def stored_bytes(weight: torch.Tensor) -> int:
    """Bytes that a weight takes; a quantized one says the size of what it stands for."""
    if not hasattr(weight, "__tensor_flatten__"):
        return weight.nbytes
    names, _ = weight.__tensor_flatten__()
    return sum(stored_bytes(getattr(weight, name)) for name in names)


def network_of(pipe: Any) -> nn.Module:
    """The part of a pipeline that estimates the noise: its U-Net, or its transformer."""
    network: nn.Module = getattr(pipe, "unet", None) or pipe.transformer
    return network


def modules_of(pipe: Any) -> list[nn.Module]:
    """The networks of a pipeline."""
    return [part for part in pipe.components.values() if isinstance(part, nn.Module)]


def _preview(model: Model, vae: Any) -> PreviewFactors:
    path = Path(model.source) / _PREVIEW_FILE
    if path.is_file():
        return PreviewFactors.load(path)
    return known_preview(vae) or fit_preview(vae, _smooth_noise(vae))


def _smooth_noise(vae: Any) -> torch.Tensor:
    """Latents `[4, C, 16, 16]` that vary slowly, as those of pictures do, for an unknown model."""
    generator = torch.Generator().manual_seed(0)
    # Flux.2 holds squares of four latents, normalised, as the channels of one.
    channels = vae.config.latent_channels * (4 if hasattr(vae, "bn") else 1)
    coarse = torch.randn(4, channels, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")
