"""The folder that ships: a pipeline in half precision and the list of nouns."""

from __future__ import annotations

import json
from typing import Any

from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from models.train.architecture import build_scheduler
from models.train.config import TrainConfig
from models.train.data.dataset import load_nouns
from models.train.trainings.unet import Denoiser, build_tokenizer, finished_vae, load_denoiser

#: What transformers remembers of how a tokenizer was loaded, and would write into its folder.
LOADED = ("is_local", "local_files_only")


def export(config: TrainConfig) -> None:
    """Writes the newest weights as a diffusers pipeline.

    Args:
        config: The run's configuration; `config.paths.model` is written.
    """
    tokenizer = build_tokenizer(config)
    write_pipeline(config, tokenizer, load_denoiser(config, tokenizer), finished_vae(config))


def write_pipeline(
    config: TrainConfig, tokenizer: CLIPTokenizer, denoiser: Denoiser, vae: Any
) -> None:
    """Writes the given networks as safetensors, and `nouns.json`.

    U-Net and autoencoder are float16. The text encoder stays float32: transformers loads weights
    in the type they are stored in, diffusers in float32, and the two must agree.
    """
    for key in LOADED:
        tokenizer.init_kwargs.pop(key, None)
    vae.register_to_config(_name_or_path="")  # else the folder of its checkpoint
    build: Any = StableDiffusionPipeline
    pipeline = build(
        vae=vae.cpu().half(),
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        unet=denoiser.unet.half(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(config.paths.model)
    nouns = {noun.name: noun.code for noun in load_nouns(config.paths)}
    (config.paths.model / "nouns.json").write_text(json.dumps(nouns, indent=2) + "\n")
