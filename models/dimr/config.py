"""Every number of the small DiMR's training in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.train.augment import Motion
from models.train.config import ROOT, Paths, StageConfig

#: Two stages on 32x32 latents: a Transformer on 16x16, a ConvNeXt stack on 32x32. As in the
#: authors' networks the second is half as wide, and a gated MLP twice as wide as its stage.
STAGES: tuple[dict[str, Any], ...] = (
    {
        "block_type": "TransformerBlock",
        "dim": 128,
        "hidden_dim": 256,
        "num_attention_heads": 4,
        "num_blocks": 5,
        "max_height": 16,
        "max_width": 16,
        "input_feature_ratio": 2,
    },
    {
        "block_type": "ConvNeXtBlock",
        "dim": 64,
        "hidden_dim": 128,
        "num_blocks": 3,
        "max_height": 32,
        "max_width": 32,
    },
)

#: The single resolution of the comparison: the Transformer alone, with two blocks more, so that it
#: has about as many parameters.
SINGLE: dict[str, Any] = {**STAGES[0], "num_blocks": 7}


@dataclass(frozen=True)
class DimrConfig:
    """The whole run.

    Args:
        data: Folders of the bundled model: its pictures, autoencoder and nouns.
        cache: Latents, checkpoints and loss logs; outside version control.
        model: The folder that ships.
        size: Side of the pictures in pixels.
        seed: Seed of weights, pictures and noise.
        variants: Latents of each noun to learn from: its picture moved anew each time.
        held_out: Further ones of each noun, to measure the loss on.
        motion: How far the pictures move. An hour of a processor is enough for mirrored ones only;
            a seed then chooses the side that a noun looks to.
        batch_size: Latents per optimizer step.
        label_dropout: Share of the null class, for guidance (the authors' 0.1).
        loss_weights: Weight of each stage's loss, lowest resolution first (the authors').
        device: Where the networks train: "cpu" or "cuda".
        stage: Training of the model that ships, in minutes of processor time, or of a GPU's.
        short: Training of each network of the comparison.
        repeats: Trainings of each network of the comparison, from different seeds.
        steps: Calls of the network for a picture that is measured.
        guidance: Guidance scale of those.
        judged: Pictures of each noun that the shipped model is judged by.
    """

    data: Paths = field(default_factory=Paths)
    cache: Path = ROOT / ".cache" / "emoji-classes-256"
    model: Path = ROOT / "models" / "emoji-classes-256"
    size: int = 256
    seed: int = 0
    variants: int = 16
    held_out: int = 4
    motion: Motion = field(default_factory=lambda: Motion(mirror=True))
    batch_size: int = 16
    label_dropout: float = 0.1
    device: str = "cpu"
    loss_weights: tuple[float, ...] = (0.25, 1.0)
    stage: StageConfig = field(default_factory=lambda: StageConfig(60, 2e-3, ema_decay=0.998))
    short: StageConfig = field(default_factory=lambda: StageConfig(3, 1.5e-3, ema_decay=0.98))
    repeats: int = 3
    steps: int = 20
    guidance: float = 2.0
    judged: int = 4


def moved(config: DimrConfig) -> DimrConfig:
    """Returns the run on pictures that move, so that a seed changes the composition."""
    return replace(
        config,
        motion=Motion(smallest=0.85, largest=1.0, shift=0.05, degrees=6, mirror=True),
        cache=config.cache.with_name(f"{config.cache.name}-moved"),
    )


def on_gpu(config: DimrConfig, minutes: float = 1.5) -> DimrConfig:
    """Returns the run of the model that ships as a GPU does it: large batches, many variants."""
    return replace(
        moved(config),
        device="cuda",
        cache=ROOT / ".cache" / "emoji-classes-256-gpu",
        variants=256,
        batch_size=256,
        stage=replace(config.stage, minutes=minutes),
    )
