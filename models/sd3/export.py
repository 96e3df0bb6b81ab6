"""The folder that ships: transformer, text encoder, solver, and links to the bundled model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

from models.sd3.config import Sd3Config
from models.sd3.data import bundled_tokenizer, fingerprint
from models.sd3.training import Denoiser, trained
from models.train.trainings.vae import load_vae

WEIGHTS = "diffusion_pytorch_model.safetensors"


def export(config: Sd3Config) -> None:
    """Writes the newest weights as a pipeline."""
    write_pipeline(config, trained(config))


def write_pipeline(config: Sd3Config, denoiser: Denoiser) -> None:
    """Writes the networks and their solver.

    The transformer is float16. The text encoder stays float32: transformers loads weights in the
    type they are stored in, diffusers in float32, and the two must agree.

    The second text encoder is a link to the first, the tokenizers and the autoencoder's weights are
    links to the bundled model's; `bundled.json` says which those were. The autoencoder has a
    configuration of its own, because the pipeline adds its `shift_factor`.
    """
    folder, bundled = config.model, config.data.model
    folder.mkdir(parents=True, exist_ok=True)
    vae = load_vae(bundled, config.device)
    vae.register_to_config(shift_factor=0.0, _name_or_path="")
    tokenizer, text_encoder = bundled_tokenizer(config), denoiser.text_encoder
    build: Any = StableDiffusion3Pipeline
    schedule: Any = FlowMatchEulerDiscreteScheduler
    pipeline = build(
        transformer=denoiser.transformer.half(),
        scheduler=schedule(shift=1.0),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=text_encoder,
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.save_config(folder)
    pipeline.transformer.save_pretrained(folder / "transformer")
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    text_encoder.save_pretrained(folder / "text_encoder")
    AutoencoderKL.save_config(vae, folder / "vae")
    link(folder / "vae" / WEIGHTS, bundled / "vae" / WEIGHTS)
    link(folder / "text_encoder_2", folder / "text_encoder")
    for name in ("tokenizer", "tokenizer_2"):
        link(folder / name, bundled / "tokenizer")
    (folder / "bundled.json").write_text(json.dumps({"sha256": fingerprint(config)}) + "\n")


def link(place: Path, target: Path) -> None:
    """Makes a relative link, unless there is one."""
    if not place.is_symlink():
        place.symlink_to(os.path.relpath(target, place.parent))
