"""A tiny Inf-DiT with random weights, as an upscaler of a catalogue."""

from pathlib import Path
from typing import Any

import torch

from hidiffusion.inf_dit import InfDiTTransformer, InfDiTUpscalePipeline

STEPS = 3


def write_upscaler(folder: Path, name: str) -> dict[str, Any]:
    """Write the model below a catalogue's folder; returns its entry in the catalogue."""
    torch.manual_seed(0)
    network = InfDiTTransformer(
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=16,
        block_size=16,
        image_embed_dim=None,
    )
    InfDiTUpscalePipeline(network).save_pretrained(folder / name)
    return {
        "name": name,
        "title": name,
        "source": name,
        "kind": "upscaler",
        "engine": "inf-dit",
        "scales": [2, 4],
        "native_size": 64,
        "min_size": 8,
        "default_size": 64,
        "default_steps": STEPS,
        "default_scheduler": "EDMHeun",
        "schedulers": ["EDMHeun"],
        "default_method": "direct",
        "methods": ["direct"],
    }
