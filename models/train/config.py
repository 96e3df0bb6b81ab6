"""Every number of the bundled model's training in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from models.train.augment import CloseUps, Motion, Staging

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Paths:
    """Where data, checkpoints and results live.

    Args:
        cache: Downloads, packed pictures and checkpoints; outside version control.
        model: The folder that ships.
        classifier: The folder of the classifier.
        upscaler: The folder of the upscaler.
        images: Pictures for the documentation.
        nouns: The nouns the model learns.
    """

    cache: Path = ROOT / ".cache" / "fluent-emoji-256"
    model: Path = ROOT / "models" / "fluent-emoji-256"
    classifier: Path = ROOT / "models" / "noun-classifier"
    upscaler: Path = ROOT / "models" / "fluent-emoji-x4"
    images: Path = ROOT / "docs" / "images"
    nouns: Path = ROOT / "models" / "train" / "data" / "nouns.json"

    def with_nouns(self, file: Path) -> Paths:
        """Returns the same folders with another list of nouns."""
        return replace(self, nouns=file)

    @property
    def checkpoints(self) -> Path:
        """Returns the folder of checkpoints and loss logs."""
        return self.cache / "checkpoints"


@dataclass(frozen=True)
class StageConfig:
    """One training stage, bounded by time so that it ends on any machine.

    Args:
        minutes: Training time; the learning rate follows a cosine over it.
        learning_rate: Peak of the schedule.
        warmup_steps: Steps of linear warm-up.
        ema_decay: Upper bound of the weight average's decay.
        checkpoint_seconds: Time between two checkpoints.
    """

    minutes: float
    learning_rate: float
    warmup_steps: int = 50
    ema_decay: float = 0.995
    checkpoint_seconds: float = 120.0


@dataclass(frozen=True)
class VaeConfig:
    """The autoencoder: factor 8, four latent channels, convolutional.

    Args:
        channels: Width of the four levels, finest first.
        layers: Residual blocks per encoder level; the decoder has one more.
        crops: Side and number of the crops of a batch; batches take turns. The largest shows whole
            pictures, so that group normalisation meets the white ground as it is in use.
        kl_weight: Weight of the Kullback-Leibler term, a mean per latent element.
        edge_weight: Weight of the L1 distance between picture gradients.
        known_share: Share of crops from the nouns that the U-Net learns; the rest come from all
            pictures of the package, so that the autoencoder stays general.
        tinted: Share of crops that are multiplied by a random light colour, so that the
            autoencoder knows coloured grounds too.
        motion: How far pictures move before they are cropped, so that the autoencoder knows the
            sizes at which scenes show them; nothing moves without it.
        start: Pipeline whose autoencoder, of the same shape, has the first weights.
        decoder_noise: Deviation of the noise on the latents that the decoder trains on, which
            have unit deviation.
        stage: Training of encoder and decoder together.
        decoder_stage: Training of the decoder alone, on latents that stay as they are.
    """

    channels: tuple[int, int, int, int] = (16, 32, 64, 96)
    layers: int = 1
    crops: tuple[tuple[int, int], ...] = ((128, 4), (256, 1), (256, 1))
    kl_weight: float = 1e-4
    edge_weight: float = 1.0
    known_share: float = 0.95
    tinted: float = 0.0
    motion: Motion | None = None
    start: Path | None = None
    decoder_noise: float = 0.05
    stage: StageConfig = field(default_factory=lambda: StageConfig(64, 2e-3))
    decoder_stage: StageConfig = field(default_factory=lambda: StageConfig(48, 1e-3))


@dataclass(frozen=True)
class UNetConfig:
    """The denoiser and its text encoder, trained together on cached latents.

    Args:
        channels: Width of the four levels (32, 16, 8 and 4 latents at native size).
        heads: Attention heads of the four levels, of 32 channels each.
        text_heads: Attention heads of the text encoder.
        text_width: Width of the text encoder, and of cross-attention.
        text_layers: Layers of the text encoder.
        vocabulary: Size of the byte-pair vocabulary.
        prompt_dropout: Share of empty prompts, for classifier-free guidance (Ho and Salimans,
            arXiv 2207.12598).
        batch_size: Latents per optimizer step.
        variants: Scenes of each noun that are encoded.
        staging: What the scenes are made of. Motion lets seeds change the composition, and takes
            the meaning from the picture's border.
        reach: By how many cells of 8 pixels latents are shifted at random, anew in each batch, as
            far as what they show stays in the frame.
        stride: Cells from one such place to the next; a multiple of two is the same shift for the
            levels below the top.
        captions: Captions of each scene.
        timestep_exponent: Timesteps are this power of what is evenly drawn from 0..1; below 1 more
            of them are noisy ones, in which it is decided what stands where.
        close: Close-ups that are shown beside the scenes; none by default.
        start: Pipeline that training goes on from, of the same shape: its U-Net and text encoder
            are the first weights, its tokenizer and autoencoder stay.
        stage: The training stage.
    """

    channels: tuple[int, int, int, int] = (32, 64, 128, 192)
    heads: tuple[int, int, int, int] = (1, 2, 4, 6)
    text_heads: int = 4
    text_width: int = 128
    text_layers: int = 2
    vocabulary: int = 3000
    prompt_dropout: float = 0.1
    batch_size: int = 8
    variants: int = 1
    staging: Staging = field(default_factory=lambda: Staging(Motion()))
    reach: int = 0
    stride: int = 1
    captions: int = 32
    timestep_exponent: float = 1.0
    close: CloseUps | None = None
    start: Path | None = None
    stage: StageConfig = field(default_factory=lambda: StageConfig(94, 1e-3))


@dataclass(frozen=True)
class ClassifierConfig:
    """The classifier that measures pictures.

    Args:
        nouns: What it can tell apart; more nouns than the bundled model knows make it strict.
        batch_size: Pictures per optimizer step.
        rounds: How often each noun is moved anew when its accuracy is measured.
        stage: The training stage, in minutes of processor time.
    """

    nouns: Path = ROOT / "models" / "train" / "data" / "everyday.json"
    batch_size: int = 96
    rounds: int = 10
    stage: StageConfig = field(default_factory=lambda: StageConfig(3, 3e-3))


@dataclass(frozen=True)
class UpscalerConfig:
    """The small Inf-DiT: five layers, because those and no more fit three megabytes.

    Args:
        layers: Layers.
        heads: Attention heads.
        width: Width of the tokens.
        block: Pixels along the side of a block.
        crop: Pixels along the side of a training crop, a multiple of the block.
        batch_size: Crops per optimizer step.
        stage: The training stage.
    """

    layers: int = 5
    heads: int = 4
    width: int = 128
    block: int = 32
    crop: int = 96
    batch_size: int = 4
    stage: StageConfig = field(default_factory=lambda: StageConfig(60, 1e-3))


@dataclass(frozen=True)
class TrainConfig:
    """The whole run.

    Args:
        size: Native picture side in pixels.
        threads: Threads that torch uses.
        seed: Seed of weights, crops, noise and prompts.
        paths: Folders.
        vae: The autoencoder.
        unet: The denoiser and text encoder.
        classifier: The classifier of nouns.
        upscaler: The upscaler.
        seeds: Pictures of each noun that the finished model is judged by.
        device: Where the networks train: "cpu" or "cuda".
    """

    size: int = 256
    threads: int = 1
    seed: int = 0
    seeds: int = 2
    device: str = "cpu"
    paths: Paths = field(default_factory=Paths)
    vae: VaeConfig = field(default_factory=VaeConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    upscaler: UpscalerConfig = field(default_factory=UpscalerConfig)
