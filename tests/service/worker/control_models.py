"""A catalogue of tiny models that tiny ControlNets guide."""

import json
from pathlib import Path
from typing import Any

import torch

from service.settings import Settings, WorkerSettings
from service.worker.pipelines import Pipelines
from tests.hidiffusion import tiny_models

#: Families, and what diffusers' names of their pipelines begin with.
FAMILIES = {"sd": "StableDiffusion", "sdxl": "StableDiffusionXL"}
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
