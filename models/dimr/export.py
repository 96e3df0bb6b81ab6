"""The folder that ships: network, solver, names of the classes, and the bundled autoencoder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from hidiffusion.dimr import DiMRPipeline, DPMSolverFastScheduler
from models.dimr.card import CARD
from models.dimr.config import DimrConfig
from models.dimr.training import trained
from models.train.trainings.vae import load_vae


def export(config: DimrConfig) -> None:
    """Writes the newest weights in float16 as a pipeline.

    The autoencoder is a link to the bundled model's, since its latents are what the network knows;
    `encoder.json` says which encoder that was.
    """
    network = trained(config, "dimr", config.stage, config.seed)
    config.model.mkdir(parents=True, exist_ok=True)
    card = config.model / "README.md"
    if not card.exists():
        card.write_text(CARD)
    write_pipeline(config, network, class_names(config))
    (config.model / "encoder.json").write_text(
        json.dumps({"sha256": encoder_hash(config.data.model / "vae")}, indent=2) + "\n"
    )


def write_pipeline(config: DimrConfig, network: nn.Module, names: list[str]) -> None:
    """Writes a network with its solver and the names of its classes."""
    pipeline = DiMRPipeline(
        network.half(),  # type: ignore[arg-type]
        load_vae(config.data.model),
        DPMSolverFastScheduler(),
        dict(enumerate(names)),
    )
    pipeline.save_config(config.model)
    pipeline.transformer.save_pretrained(config.model / "transformer")
    pipeline.scheduler.save_pretrained(config.model / "scheduler")
    link = config.model / "vae"
    if not link.exists():
        link.symlink_to(os.path.relpath(config.data.model / "vae", config.model))


def class_names(config: DimrConfig) -> list[str]:
    """Returns the nouns that it learns, in the order of their class numbers."""
    return list(json.loads(config.data.nouns.read_text()))


def encoder_hash(folder: Path) -> str:
    """Returns the SHA-256 of an autoencoder's encoding half, by parameter name."""
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    digest = hashlib.sha256()
    for name in sorted(weights):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(name.encode())
            digest.update(weights[name].contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()
