"""Whole runs by name: one for a shared CPU, one for a GPU."""

from __future__ import annotations

from dataclasses import replace

from models.train.augment import Motion
from models.train.config import (
    ROOT,
    ClassifierConfig,
    Paths,
    StageConfig,
    TrainConfig,
    UNetConfig,
    VaeConfig,
)

CPU = TrainConfig()

#: 25 minutes in all on one data-centre GPU: 7 and 2 for the autoencoder, 14 for U-Net and text
#: encoder, 1 for the classifier; data, samples and figures take the rest. 320 nouns, and all
#: files of the model below 60 MB. Not run on a GPU yet.
GPU = TrainConfig(
    device="cuda",
    seeds=4,
    paths=Paths(
        cache=ROOT / ".cache" / "fluent-emoji-256-gpu",
        nouns=ROOT / "models" / "train" / "everyday.json",
    ),
    vae=VaeConfig(
        channels=(32, 64, 96, 128),
        crops=((128, 32), (256, 8), (256, 8)),
        known_share=0.8,
        stage=StageConfig(7, 2e-3, warmup_steps=200, ema_decay=0.999),
        decoder_stage=StageConfig(2, 1e-3, warmup_steps=200, ema_decay=0.999),
    ),
    unet=UNetConfig(
        channels=(64, 96, 160, 256),
        heads=(2, 3, 5, 8),
        vocabulary=4000,
        batch_size=128,
        variants=24,
        motion=Motion(smallest=0.75, largest=1.0, shift=0.1, degrees=8, mirror=True),
        stage=StageConfig(14, 1e-3, warmup_steps=200, ema_decay=0.9995),
    ),
    classifier=ClassifierConfig(batch_size=512, stage=StageConfig(1, 3e-3)),
)

PROFILES = {"cpu": CPU, "gpu": GPU}


def profile(name: str, device: str | None = None) -> TrainConfig:
    """Returns a run by name, on another device if one is given.

    Raises:
        ValueError: There is no such profile.
    """
    if name not in PROFILES:
        raise ValueError(f"profile is {name!r}; choose from {', '.join(PROFILES)}")
    chosen = PROFILES[name]
    return replace(chosen, device=device) if device else chosen
