"""Contact sheets: one sample per noun, and reconstructions beside their originals."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm import tqdm

from models.train.config import TrainConfig
from models.train.dataset import fill, load_nouns

COLUMNS, LABEL = 8, 18
STEPS, GUIDANCE = 25, 3.0


def contact_sheet(config: TrainConfig, file: Path, batch: int = 4) -> None:
    """Draws one sample per noun at native size from the exported model.

    Args:
        config: The run's configuration.
        file: Picture to write.
        batch: Samples made at a time.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(config.paths.model)
    pipeline.set_progress_bar_config(disable=True)
    prompts = [fill("{article} {}", noun.name) for noun in load_nouns(config.paths)]
    starts = range(0, len(prompts), batch)
    pictures: list[Image.Image] = []
    for start in tqdm(starts, desc="sampling"):
        pictures += sample(pipeline, prompts[start : start + batch], config.seed)
    save_sheet(pictures, prompts, config.size // 2, file)


def sample(pipeline: StableDiffusionPipeline, prompts: list[str], seed: int) -> list[Image.Image]:
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
    sheet.save(file, optimize=True)


@torch.no_grad()
def reconstruction_sheet(vae: AutoencoderKL, pictures: Tensor, file: Path) -> None:
    """Writes pictures (n, 3, h, w) in a row, and their reconstructions below."""
    outputs = vae.decode(vae.encode(pictures).latent_dist.mean).sample.clamp(-1, 1)
    rows = [torch.cat(list(part), dim=2) for part in (pictures, outputs)]
    pixels = torch.cat(rows, dim=1).add(1).mul(127.5).round().byte()
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, optimize=True)
