"""The paper's two claims in small: what the second resolution and the norms are worth.

Each network trains for the same processor time, on the same data, from several seeds.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

import torch

from models.dimr.config import DimrConfig, moved
from models.dimr.export import class_names
from models.dimr.judge import draw, held_out_loss
from models.dimr.networks import NETWORKS
from models.dimr.training import run_name, train
from models.train.blocks import fill_block
from models.train.figures.judge import recognised, wilson

#: Of Student's t at 95 %, by degrees of freedom.
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78}


def compare(config: DimrConfig) -> None:
    """Trains and measures each network, and writes the table into the card; resumes by itself.

    The pictures move, so that held-out ones differ from those that were learned.
    """
    config = moved(config)
    folder = config.cache / "compared"
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in NETWORKS}
    for seed in range(config.repeats):
        for name in NETWORKS:
            file = folder / f"{run_name(name, config.short, seed)}.json"
            if not file.exists():
                file.write_text(json.dumps(measure(config, name, seed)))
            rows[name].append(json.loads(file.read_text()))
    fill_block(config.model / "README.md", "comparison", table(rows))


def measure(config: DimrConfig, name: str, seed: int) -> dict[str, Any]:
    """Trains one network, and returns what it came to."""
    network = train(config, name, config.short, seed)
    checkpoint = config.cache / "checkpoints" / f"{run_name(name, config.short, seed)}.pt"
    steps = torch.load(checkpoint, weights_only=True, map_location="cpu")["step"]
    hits = recognised(config.data.classifier, draw(config, network, seed), class_names(config))
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "steps": steps,
        "loss": held_out_loss(config, network),
        "hits": sum(hits),
        "drawn": len(hits),
    }


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Lays the measurements out, one network a row."""
    lines = [
        "| network | parameters | steps | loss on held-out pictures | nouns recognised |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, runs in rows.items():
        losses = [run["loss"] for run in runs]
        half = STUDENT[len(runs) - 1] * statistics.stdev(losses) / len(runs) ** 0.5
        hits, drawn = sum(run["hits"] for run in runs), sum(run["drawn"] for run in runs)
        low, high = wilson(hits, drawn)
        lines.append(
            f"| {name} | {runs[0]['parameters'] / 1e6:.2f} M "
            f"| {statistics.mean(run['steps'] for run in runs):,.0f} "
            f"| {statistics.mean(losses):.4f} ± {half:.4f} "
            f"| {hits} of {drawn} ({low:.0%} to {high:.0%}) |"
        )
    return "\n".join(lines)
