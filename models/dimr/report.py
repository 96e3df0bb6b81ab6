"""Pictures and figures for the card of the small DiMR, from the folder that ships."""

from __future__ import annotations

import json
from typing import Any

import torch
from PIL import Image

from hidiffusion.dimr import DiMRPipeline
from models.dimr.config import DimrConfig
from models.dimr.export import class_names
from models.dimr.judge import draw, held_out_loss
from models.dimr.training import run_name
from models.train.blocks import write_figures
from models.train.figures.judge import recognised, wilson
from models.train.figures.samples import save_sheet


def report(config: DimrConfig) -> None:
    """Draws every noun, asks the classifier, and writes the figures into the card."""
    network: Any = DiMRPipeline.from_pretrained(config.model).transformer
    network.float().eval()
    names = class_names(config)
    hits: list[bool] = []
    for seed in range(config.judged):
        pictures = draw(config, network, seed)
        hits += recognised(config.data.classifier, pictures, names)
        if seed == 0:
            pixels = pictures.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1)
            images = [Image.fromarray(picture.numpy()) for picture in pixels]
            file = config.data.images / "dimr-contact-sheet.png"
            save_sheet(images, names, config.size // 2, file)
    name = run_name("dimr", config.stage, config.seed)
    checkpoints = config.cache / "checkpoints"
    state = torch.load(checkpoints / f"{name}.pt", weights_only=True, map_location="cpu")
    log = (checkpoints / f"{name}-loss.jsonl").read_text().splitlines()
    low, high = wilson(sum(hits), len(hits))
    missed = sorted(
        {name for name, hit in zip(names * config.judged, hits, strict=True) if not hit}
    )
    size = sum(file.stat().st_size for file in (config.model / "transformer").iterdir())
    rows = {
        "parameters": f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M",
        "network on disk, float16": f"{size / 1e6:.1f} MB",
        "classes": f"{len(names)}",
        "steps of training": f"{state['step']:,}",
        "processor minutes": f"{state['elapsed'] / 60:.0f}",
        "loss at the end, both stages": f"{json.loads(log[-1])['loss']:.3f}",
        "loss of the noise on held-out pictures": f"{held_out_loss(config, network):.4f}",
        f"samples that show their noun, of {len(hits)}": (
            f"{sum(hits) / len(hits):.0%} ({low:.0%} to {high:.0%})"
        ),
        "nouns missed at least once": ", ".join(missed) or "none",
    }
    lines = ["| measured | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in rows.items())]
    write_figures(config.model / "README.md", "\n".join(lines))
