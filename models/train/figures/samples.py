"""Contact sheets: one sample per noun, and reconstructions beside their originals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm import tqdm

from models.train.config import TrainConfig
from models.train.data.dataset import fill, load_nouns

COLUMNS, LABEL = 8, 18
STEPS, GUIDANCE = 25, 3.0


def contact_sheet(config: TrainConfig, file: Path, batch: int = 4) -> None:
    """Draws one sample per noun at native size from the exported model.

    Args:
        config: The run's configuration.
        file: Picture to write.
        batch: Samples made at a time.
    """
    pictures = list(sample_nouns(config, config.seed, batch))
    save_sheet(pictures, noun_prompts(config), config.size // 2, file)


def noun_prompts(config: TrainConfig) -> list[str]:
    """Returns the plainest prompt of every noun, in order."""
    return [fill("{article} {}", noun.name) for noun in load_nouns(config.paths)]


def sample_nouns(config: TrainConfig, seed: int, batch: int = 4) -> Iterator[Image.Image]:
    """Draws every noun in order with the exported model, all from one seed.

    Args:
        config: The run's configuration; says the device.
        seed: Seed of every picture.
        batch: Samples made at a time.

    Yields:
        One picture a noun.
    """
    load: Any = StableDiffusionPipeline.from_pretrained
    pipeline = load(config.paths.model).to(config.device)
    pipeline.set_progress_bar_config(disable=True)
    prompts = noun_prompts(config)
    for start in tqdm(range(0, len(prompts), batch), desc="sampling"):
        yield from sample(pipeline, prompts[start : start + batch], seed)


def sample(pipeline: Any, prompts: list[str], seed: int) -> list[Image.Image]:
    """Returns one picture per prompt, each from the same seed."""
    generators = [torch.Generator().manual_seed(seed) for _ in prompts]
    result = pipeline(
        prompts,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=generators,
    )
    images: list[Image.Image] = result.images
    return images


def save_sheet(pictures: list[Image.Image], labels: list[str], side: int, file: Path) -> None:
    """Writes labelled pictures in rows of eight, each `side` pixels wide."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * side, rows * (side + LABEL)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = place % COLUMNS * side, place // COLUMNS * (side + LABEL)
        sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (x, y))
        draw.text((x + 4, y + side + 2), label, fill="black")
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file, optimize=True, quality=95)


@torch.no_grad()
def reconstruction_sheet(vae: Any, pictures: Tensor, file: Path) -> None:
    """Writes pictures (n, 3, h, w) in a row, and their reconstructions below."""
    latents = vae.encode(pictures.to(vae.device)).latent_dist.mean
    outputs = vae.decode(latents).sample.clamp(-1, 1).cpu()
    rows = [torch.cat(list(part), dim=2) for part in (pictures, outputs)]
    pixels = torch.cat(rows, dim=1).add(1).mul(127.5).round().byte()
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, quality=95, method=6)
