"""IP-Adapters beside the tiny models that tiny ControlNets guide."""

import json
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from tests.hidiffusion.pipelines import pipeline_kinds
from tests.hidiffusion.tiny import models as tiny_models
from tests.service.worker import control_models

Parts = dict[str, dict[str, torch.Tensor]]


def write_catalog(folder: Path) -> Path:
    """The catalogue of ControlNets, with a good IP-Adapter for each model."""
    control_models.write_catalog(folder)
    catalog = json.loads((folder / "catalog.json").read_text())
    for model in catalog["models"]:
        parts = adapter_weights(folder, model["source"])
        model["ip_adapter"] = save_adapter(folder, model["name"], parts)
    (folder / "catalog.json").write_text(json.dumps(catalog))
    _save_encoder(folder)
    return folder


def adapter_weights(folder: Path, source: str) -> Parts:
    """Random weights that fit the U-Net of a model."""
    parts: Parts = pipeline_kinds.ip_adapter_weights(
        DiffusionPipeline.from_pretrained(folder / source).unet
    )
    return parts


def save_adapter(folder: Path, name: str, parts: Parts) -> dict[str, str]:
    """Save an adapter; returns its entry in a catalogue."""
    weights = folder / "adapters" / f"{name}.safetensors"
    weights.parent.mkdir(exist_ok=True)
    flat = {f"{part}.{key}": value for part in parts for key, value in parts[part].items()}
    save_file(flat, weights)
    return {"source": "adapters", "file": weights.name}


def _save_encoder(folder: Path) -> None:
    with tiny_models.seeded(9):
        config = CLIPVisionConfig(
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
            projection_dim=tiny_models.PROMPT_CHANNELS,
        )
        encoder = CLIPVisionModelWithProjection(config).eval()
    encoder.save_pretrained(folder / "adapters" / "image_encoder")
