"""Every number of the small transformer's training in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.train.augment import Motion
from models.train.config import ROOT, Paths, StageConfig

#: Tokens that the pipeline appends for a third text encoder that is not there, all noughts:
#: `max_sequence_length` of `StableDiffusion3Pipeline`.
ABSENT_TOKENS = 256

#: Of `SD3Transformer2DModel`: patches of 2x2 latents, so 16x16 tokens at native size. The table of
#: positions is twice that, with the native ones in its middle. Root mean square norms of query and
#: key are Stable Diffusion 3.5's.
TRANSFORMER: dict[str, Any] = {
    "patch_size": 2,
    "num_layers": 7,
    "attention_head_dim": 32,
    "num_attention_heads": 3,
    "caption_projection_dim": 96,
    "pos_embed_max_size": 32,
    "qk_norm": "rms_norm",
}


@dataclass(frozen=True)
class TextConfig:
    """The text encoder. The transformer reads the states before its last layer, as SD3's does.

    Args:
        width: Width of its states, and of the pooled projection.
        layers: Layers.
        heads: Attention heads.
    """

    width: int = 48
    layers: int = 2
    heads: int = 3


@dataclass(frozen=True)
class Sd3Config:
    """The whole run.

    Args:
        data: Folders of the bundled model: its pictures, autoencoder, tokenizer and nouns.
        cache: Pictures, latents, checkpoints and loss logs; outside version control.
        model: The folder that ships.
        device: Where the networks train: "cpu" or "cuda".
        size: Side of the pictures in pixels.
        seed: Seed of weights, pictures and noise.
        variants: Latents of each noun to learn from: its picture moved anew each time.
        motion: How far the pictures move, so that a seed changes the composition.
        transformer: Arguments of `SD3Transformer2DModel` besides those that follow from the text
            encoder and the autoencoder.
        text: The text encoder.
        prompt_dropout: Share of empty prompts, for classifier-free guidance (Ho and Salimans,
            arXiv 2207.12598).
        batch_size: Latents per optimizer step.
        stage: The training stage.
        steps: Calls of the network for a picture that is measured.
        guidance: Guidance scale of those.
        judged: Pictures of each noun that the model is judged by.
        sides: Sides of larger pictures by which the methods are judged, in pixels.
        shown_sides: Further ones, at which a few nouns are drawn: they take minutes each.
        images: Pictures for the documentation.
    """

    data: Paths = field(default_factory=Paths)
    cache: Path = ROOT / ".cache" / "emoji-sd3-256"
    model: Path = ROOT / "models" / "emoji-sd3-256"
    device: str = "cpu"
    size: int = 256
    seed: int = 0
    variants: int = 16
    motion: Motion = field(
        default_factory=lambda: Motion(
            smallest=0.6, largest=1.0, shift=0.1, mirror=True, overhang=0.02
        )
    )
    transformer: dict[str, Any] = field(default_factory=lambda: dict(TRANSFORMER))
    text: TextConfig = field(default_factory=TextConfig)
    prompt_dropout: float = 0.1
    batch_size: int = 8
    stage: StageConfig = field(default_factory=lambda: StageConfig(60, 1e-3, ema_decay=0.998))
    steps: int = 25
    guidance: float = 3.0
    judged: int = 4
    sides: tuple[int, ...] = (512,)
    shown_sides: tuple[int, ...] = (1024,)
    images: Path = Paths.images


def configured(device: str = "cpu") -> Sd3Config:
    """Returns the run for a device: three minutes of a GPU, or an hour of a processor."""
    if device == "cpu":
        return Sd3Config()
    stage = StageConfig(3, 1.5e-3, warmup_steps=200, ema_decay=0.999, checkpoint_seconds=60)
    return Sd3Config(device=device, variants=400, batch_size=256, stage=stage)


def within(config: Sd3Config, seconds: float) -> Sd3Config:
    """Returns the same run with another training time.

    Raises:
        ValueError: The time is not above nought.
    """
    if not seconds > 0:
        raise ValueError(f"budget is {seconds!r}; give seconds above 0")
    return replace(config, stage=replace(config.stage, minutes=seconds / 60))
