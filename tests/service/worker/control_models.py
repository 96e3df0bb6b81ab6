"""A catalogue of tiny models that tiny ControlNets guide."""

import json
from pathlib import Path
from typing import Any

import PIL.Image
import torch

from service.domain.models.controls import ControlChoice
from service.domain.requests.request import ResolvedRequest
from service.settings import Settings, WorkerSettings
from service.worker.engines.diffusion import denoise
from service.worker.job.snapshot import Snapshot
from service.worker.weights.pipelines import Pipelines, needs_of
from tests.hidiffusion.tiny import models as tiny_models

#: Families, and what diffusers' names of their pipelines begin with.
FAMILIES = {"sd": "StableDiffusion", "sdxl": "StableDiffusionXL"}
SIDE = 128
METHODS = ["direct", "hidiffusion", "hidiffusion-guided", "hidiffusion-refresh"]


def write_catalog(folder: Path) -> Path:
    """Models with two good ControlNets, one of another kind and one that is missing."""
    for family in FAMILIES:
        pipe = getattr(tiny_models, f"{family}_pipeline")()
        pipe.save_pretrained(folder / family)
        for seed, name in enumerate(("canny", "depth"), 1):
            net = tiny_models.controlnet(pipe.unet, seed=seed)
            with tiny_models.seeded(seed):  # else no map has an effect, as before training
                torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight)
            net.save_pretrained(folder / f"{family}-{name}")
    models = [_model(family) for family in FAMILIES]
    models.append(_model("sd") | {"name": "second"})
    (folder / "catalog.json").write_text(json.dumps({"models": models}))
    return folder


def _model(family: str) -> dict[str, Any]:
    other = "sdxl" if family == "sd" else "sd"
    sources = {name: f"{family}-{name}" for name in ("canny", "depth")}
    sources |= {"misfit": f"{other}-canny", "missing": "nowhere/at-all"}
    return {
        "name": family,
        "title": family,
        "source": family,
        "native_size": 64,
        "default_size": 64,
        "default_scheduler": "DDIMScheduler",
        "default_method": "direct",
        "schedulers": ["DDIMScheduler"],
        "methods": METHODS,
        "controls": [{"name": name, "source": source} for name, source in sources.items()],
    }


def open_pipelines(folder: Path, **worker: Any) -> Pipelines:
    """The pipelines of a worker with the catalogue in `folder`, on the CPU."""
    settings = WorkerSettings(**{"device": "cpu"} | worker)
    return Pipelines(Settings(catalog=folder / "catalog.json", worker=settings))


def photo(turns: int = 0) -> PIL.Image.Image:
    """A gradient in each colour, turned by some right angles."""
    gradient = PIL.Image.linear_gradient("L").resize((SIDE, SIDE))
    whole = PIL.Image.merge("RGB", (gradient, gradient.rotate(180), gradient))
    return whole.rotate(90 * turns)


def make_request(model: str, *controls: ControlChoice, **changes: Any) -> ResolvedRequest:
    """A request of a model for a small picture; keywords change it."""
    request = {
        "prompt": "a fox",
        "negative_prompt": "",
        "model": model,
        "width": SIDE,
        "height": SIDE,
        "num_inference_steps": 4,
        "guidance_scale": 5.0,
        "seed": 7,
        "scheduler": "DDIMScheduler",
        "method": "direct",
        "output_format": "png",
        "controls": controls,
    }
    return ResolvedRequest(**(request | changes))


class Heard:
    """Keeps the snapshots of the steps it hears of."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []

    def __call__(
        self,
        step: int,
        total: int,
        latents: torch.Tensor,
        snapshot: Snapshot | None,
        *,
        left: float,
    ) -> None:
        del step, total, latents, left
        if snapshot is not None:
            self.snapshots.append(snapshot)


def draw(
    pipelines: Pipelines,
    request: ResolvedRequest,
    hear: Heard | None = None,
    begin: Snapshot | None = None,
    **pictures: PIL.Image.Image,
) -> torch.Tensor:
    """Latents of a request that is guided by photos, one for each of its controls."""
    maps = {f"controls.{n}.image": photo(n + 1) for n in range(len(request.controls))}
    warm = pipelines.get(request.model, request.pixels, **needs_of(request))
    return denoise(warm, request, hear or Heard(), begin, pictures=pictures | maps)
