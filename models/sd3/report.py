"""Pictures and figures for the card of the small transformer, from the folder that ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from models.sd3.card import CARD
from models.sd3.config import Sd3Config
from models.sd3.data import pictures
from models.sd3.judge import draw, load_pipeline, share
from models.sd3.training import run_name
from models.train.blocks import fill_block, write_figures
from models.train.figures.judge import recognised, small
from models.train.figures.samples import save_sheet

#: Methods that are compared beyond native size.
METHODS = ("direct", "positions", "token-windows", "refine")
#: Nouns that the picture of the comparison shows.
SHOWN = ("cat", "strawberry", "car", "rocket")


def report(config: Sd3Config) -> None:
    """Draws every noun, asks the classifier, and writes the figures into the card."""
    pipe, nouns = load_pipeline(config), names(config)
    hits: list[bool] = []
    for seed in range(config.judged):
        images = draw(config, pipe, nouns, side=config.size, seed=seed)
        hits += recognised(config.data.classifier, small(images), nouns)
        if seed == 0:
            save_sheet(images, nouns, config.size // 2, config.images / "sd3-contact-sheet.png")
    missed = sorted(
        {noun for noun, hit in zip(nouns * config.judged, hits, strict=True) if not hit}
    )
    rows = {
        "parameters of transformer and text encoder": ", ".join(
            f"{count / 1e6:.2f} M" for count in parameters(pipe)
        ),
        "its own files": f"{own_bytes(config.model) / 1e6:.2f} MB",
        **training(config),
        "samples that show their noun": share(hits),
        "nouns missed at least once": ", ".join(missed) or "none",
    }
    lines = ["| measured | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in rows.items())]
    write_figures(card(config, pipe), "\n".join(lines))


def beyond(config: Sd3Config) -> None:
    """Draws nouns beyond native size by each method, and writes the shares into the card."""
    pipe, every = load_pipeline(config), names(config)
    few = [noun for noun in every if noun in SHOWN]
    table = pipe.transformer.config.pos_embed_max_size * pipe.transformer.config.patch_size * 8
    lines = ["| size | method | pictures that show their noun |", "| --- | --- | --- |"]
    shown: list[Image.Image] = []
    labels: list[str] = []
    for side in (*config.sides, *config.shown_sides):
        nouns = every if side in config.sides else few
        for method in METHODS:
            if method == "direct" and side > table:
                continue
            images = draw(config, pipe, nouns, side=side, method=method)
            hits = recognised(config.data.classifier, small(images), nouns)
            lines.append(f"| {side}x{side} | {method} | {share(hits)} |")
            shown += [image for image, noun in zip(images, nouns, strict=True) if noun in few]
            labels += [f"{noun}, {method}, {side}x{side}" for noun in few]
    save_sheet(shown, labels, config.size, config.images / "sd3-beyond-native.png")
    fill_block(card(config, pipe), "beyond", "\n".join(lines))


def names(config: Sd3Config) -> list[str]:
    """Returns the nouns; each is the first of its captions."""
    return [captions[0] for captions in pictures(config)[1]]


def training(config: Sd3Config) -> dict[str, str]:
    """Returns what the checkpoint says of the training, for the card."""
    folder, name = config.cache / "checkpoints", run_name(config)
    state = torch.load(folder / f"{name}.pt", weights_only=True, map_location="cpu")
    facts = json.loads((folder / f"{name}.json").read_text())
    log = (folder / f"{name}-loss.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in log]
    last = losses[-max(1, len(losses) // 10) :]
    return {
        "trained on": f"{facts['device']}, {state['elapsed']:.0f} s",
        "steps": f"{state['step']:,} of {facts['batch_size']} latents",
        "latents of each noun": str(facts["variants"]),
        "loss at the end": f"{sum(last) / len(last):.4f}",
    }


def card(config: Sd3Config, pipe: Any) -> Path:
    """Returns the card, which is written if there is none."""
    file = config.model / "README.md"
    if not file.exists():
        file.write_text(
            CARD.format(
                parameters=f"{sum(parameters(pipe)) / 1e6:.1f} million",
                steps=config.steps,
                guidance=config.guidance,
                nouns=", ".join(names(config)),
            )
        )
    return file


def parameters(pipe: Any) -> list[int]:
    """Returns the numbers of parameters of the transformer and of the text encoder."""
    parts = (pipe.transformer, pipe.text_encoder)
    return [sum(parameter.numel() for parameter in part.parameters()) for part in parts]


def own_bytes(folder: Path) -> int:
    """Returns the size of a folder's files without those that are links."""
    linked = [one for one in folder.rglob("*") if one.is_symlink()]
    return sum(
        one.stat().st_size
        for one in folder.rglob("*")
        if one.is_file() and not any(link in (one, *one.parents) for link in linked)
    )
