"""Whole runs by name: two for a shared CPU, one for a GPU."""

from __future__ import annotations

from dataclasses import replace

from models.train.augment import CloseUps, Motion, Staging
from models.train.config import (
    ROOT,
    ClassifierConfig,
    Paths,
    StageConfig,
    TrainConfig,
    UNetConfig,
    UpscalerConfig,
    VaeConfig,
)

#: Each noun as it is, in its one place.
CPU = TrainConfig()

#: Further training of what `CPU` made, cut to fit an hour of two cores: eight of its nouns, each at
#: four sizes of two thirds to four fifths of the frame, at places 16 pixels apart, and close-ups.
#: Autoencoder and vocabulary stay. This is what ships.
MOVED = TrainConfig(
    seeds=12,
    paths=Paths(
        cache=ROOT / ".cache" / "fluent-emoji-256-moved",
        nouns=ROOT / "models" / "train" / "data" / "few.json",
    ),
    unet=UNetConfig(
        variants=4,
        staging=Staging(Motion(smallest=0.66, largest=0.82)),
        reach=6,
        stride=2,
        timestep_exponent=0.65,
        close=CloseUps(Motion(smallest=1.2, largest=1.8, shift=0.5), variants=120, share=0.7),
        start=Paths.model,
        stage=StageConfig(73, 1e-3, warmup_steps=60),
    ),
)

#: The nouns of `CPU` as large models see theirs: at half of the frame to all of it,
#: anywhere, cut by the border, mirrored, turned, up to three of them, on grounds of eight
#: colours. The networks have the shapes that ship, so that a processor draws as fast as before; the
#: autoencoder goes on from the one that ships, the U-Net begins anew on its latents.
GPU = TrainConfig(
    device="cuda",
    seeds=4,
    paths=Paths(cache=ROOT / ".cache" / "fluent-emoji-256-gpu"),
    vae=VaeConfig(
        crops=((256, 32),),
        known_share=0.8,
        tinted=0.4,
        motion=Motion(smallest=0.35, largest=1.2, shift=0.33, degrees=8, mirror=True),
        start=Paths.model,
        stage=StageConfig(1, 1e-3, warmup_steps=100, ema_decay=0.998),
        decoder_stage=StageConfig(0.6, 7e-4, warmup_steps=50, ema_decay=0.998),
    ),
    unet=UNetConfig(
        batch_size=256,
        variants=600,
        staging=Staging(
            Motion(smallest=0.45, largest=1.0, shift=0.25, degrees=8, mirror=True),
            most=3,
            coloured=0.3,
            shaded=0.5,
            several=0.15,
        ),
        captions=6,
        stage=StageConfig(3, 1e-3, warmup_steps=200, ema_decay=0.998),
    ),
    classifier=ClassifierConfig(batch_size=512, stage=StageConfig(0.4, 3e-3)),
    upscaler=UpscalerConfig(batch_size=32, stage=StageConfig(1.5, 1e-3, ema_decay=0.998)),
)

PROFILES = {"cpu": CPU, "moved": MOVED, "gpu": GPU}


def total_minutes(config: TrainConfig) -> float:
    """Returns the training time of all stages together; drawing and measuring come on top."""
    vae, others = config.vae, (config.unet, config.classifier, config.upscaler)
    stages = (vae.stage, vae.decoder_stage, *(part.stage for part in others))
    return sum(stage.minutes for stage in stages)


def within(config: TrainConfig, seconds: float) -> TrainConfig:
    """Returns the same run with every stage shortened or lengthened to fit a budget.

    Args:
        config: A run.
        seconds: Training time of all stages together.

    Raises:
        ValueError: The budget is not above nought.
    """
    if not seconds > 0:
        raise ValueError(f"budget is {seconds!r}; give seconds above 0")
    share = seconds / 60 / total_minutes(config)

    def fitted(stage: StageConfig) -> StageConfig:
        return replace(stage, minutes=stage.minutes * share)

    vae = config.vae
    return replace(
        config,
        vae=replace(vae, stage=fitted(vae.stage), decoder_stage=fitted(vae.decoder_stage)),
        unet=replace(config.unet, stage=fitted(config.unet.stage)),
        classifier=replace(config.classifier, stage=fitted(config.classifier.stage)),
        upscaler=replace(config.upscaler, stage=fitted(config.upscaler.stage)),
    )


def profile(name: str, device: str | None = None) -> TrainConfig:
    """Returns a run by name, on another device if one is given.

    Raises:
        ValueError: There is no such profile.
    """
    if name not in PROFILES:
        raise ValueError(f"profile is {name!r}; choose from {', '.join(PROFILES)}")
    chosen = PROFILES[name]
    return replace(chosen, device=device) if device else chosen
