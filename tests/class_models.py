"""A tiny class-to-image model with random weights, and a catalogue that offers it."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from hidiffusion.dimr import DiMRPipeline, DPMSolverFastScheduler
from tests.hidiffusion.dimr.tiny import tiny_dimr

CLASSES = ("cat, tabby", "dog", "fox")
#: Side of its pictures in pixels.
SIDE = 64


def entry(name: str, source: str) -> dict[str, Any]:
    """The model's entry in a catalogue."""
    return {
        "name": name,
        "title": name,
        "source": source,
        "kind": "class-to-image",
        "engine": "dimr",
        "classes": list(CLASSES),
        "native_size": SIDE,
        "min_size": SIDE,
        "max_size": SIDE,
        "default_size": SIDE,
        "default_steps": 7,
        "default_guidance_scale": 1.4,
        "default_scheduler": "DPMSolverFastScheduler",
        "default_method": "direct",
        "schedulers": ["DPMSolverFastScheduler", "UniPCMultistepScheduler"],
        "methods": ["direct"],
        "prompt_weighting": False,
    }


def write_catalog(folder: Path) -> Path:
    """Write the model and a catalogue of it alone; returns the catalogue's path."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4,) * 4,
        norm_num_groups=2,
        latent_channels=4,
    )
    network = tiny_dimr(num_classes=len(CLASSES) + 1)
    pipe = DiMRPipeline(network, vae, DPMSolverFastScheduler(), dict(enumerate(CLASSES)))
    pipe.save_pretrained(folder / "classes")
    path = folder / "catalog.json"
    path.write_text(json.dumps({"models": [entry("classes", "classes")]}))
    return path
