"""What the exported model draws, and what the noun classifier sees in it."""

from __future__ import annotations

from typing import Any

from diffusers import StableDiffusion3Pipeline
from PIL import Image
from tqdm import tqdm

from hidiffusion.methods import registry
from models.sd3.config import Sd3Config
from models.train.data.dataset import fill
from models.train.figures.judge import wilson


def load_pipeline(config: Sd3Config) -> Any:
    """Returns the exported model on the run's device."""
    load: Any = StableDiffusion3Pipeline.from_pretrained
    pipe = load(config.model, text_encoder_3=None, tokenizer_3=None).to(config.device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(
    config: Sd3Config,
    pipe: Any,
    nouns: list[str],
    *,
    side: int,
    method: str = "direct",
    seed: int = 0,
) -> list[Image.Image]:
    """Returns a square picture of each noun, all from one seed."""
    return [
        registry.get(method)
        .generate(
            pipe,
            width=side,
            height=side,
            seed=seed,
            prompt=fill("{article} {}", noun),
            num_inference_steps=config.steps,
            guidance_scale=config.guidance,
        )
        .images[0]
        for noun in tqdm(nouns, desc=f"{method} {side}x{side}")
    ]


def share(hits: list[bool]) -> str:
    """Says a share with its 95 % interval."""
    low, high = wilson(sum(hits), len(hits))
    return f"{sum(hits)} of {len(hits)} ({low:.0%} to {high:.0%})"
