"""Measurements for the model card: losses, reconstructions, samples and sizes."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from matplotlib.axes import Axes
from transformers import CLIPTextModel

from models.train.config import TrainConfig
from models.train.figures.native import native
from models.train.figures.samples import reconstruction_sheet
from models.train.trainings.unet import noun_pictures
from models.train.trainings.vae import psnr

mpl.use("Agg")

from matplotlib import pyplot as plt

STAGES = ("vae", "decoder", "unet")
#: Reconstructions that the sheet shows.
SHOWN = 8
PARTS: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
}


def report(config: TrainConfig) -> dict[str, Any]:
    """Draws the loss curves and the reconstructions, and measures the exported model.

    Args:
        config: The run's configuration.

    Returns:
        Figures for the model card: parameters per part, steps and minutes per stage, PSNR in dB,
        what native samples show (`Native`), size in MB.
    """
    plot_losses(config.paths.checkpoints, config.paths.images / "model-loss.png")
    pictures = noun_pictures(config)
    vae = PARTS["vae"].from_pretrained(config.paths.model, subfolder="vae")
    vae = vae.to(config.device).eval()
    shown = pictures[:: -(-len(pictures) // SHOWN)]
    reconstruction_sheet(vae, shown, config.paths.images / "model-reconstructions.webp")
    decibels = psnr(vae, pictures)
    files = [file for file in config.paths.model.rglob("*") if file.is_file()]
    return {
        "nouns": len(pictures),
        "device": device_name(config.device),
        "parameters": {name: count_parameters(config.paths.model, name) for name in PARTS},
        "stages": {
            stage: stage_figures(config.paths.checkpoints, stage)
            for stage in trained(config.paths.checkpoints)
        },
        "psnr_mean_db": float(decibels.mean()),
        "psnr_worst_db": float(decibels.min()),
        "native": asdict(native(config)),
        "size_mb": sum(file.stat().st_size for file in files) / 1e6,
    }


def count_parameters(model: Path, part: str) -> int:
    """Returns the number of parameters of a part of the exported model."""
    network = PARTS[part].from_pretrained(model, subfolder=part)
    return sum(parameter.numel() for parameter in network.parameters())


def trained(checkpoints: Path) -> list[str]:
    """Returns the stages that were trained; the one of the decoder alone may be left out."""
    return [stage for stage in STAGES if (checkpoints / f"{stage}.pt").exists()]


def stage_figures(checkpoints: Path, stage: str) -> dict[str, float]:
    """Returns steps and minutes of a stage, and the mean loss of its last tenth."""
    state = torch.load(checkpoints / f"{stage}.pt", weights_only=True, map_location="cpu")
    losses = [entry["loss"] for entry in _log(checkpoints, stage)]
    last = losses[-max(1, len(losses) // 10) :]
    return {
        "steps": state["step"],
        "minutes": state["elapsed"] / 60,
        "loss": sum(last) / max(1, len(last)),
    }


def device_name(device: str) -> str:
    """Returns what the networks trained on, in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} processor, {torch.get_num_threads()} threads"


def plot_losses(folder: Path, file: Path) -> None:
    """Draws the stages' losses over steps, on a logarithmic scale."""
    stages = trained(folder)
    size = (4 * len(stages), 3.5)
    figure, axes = plt.subplots(1, len(stages), figsize=size, squeeze=False, layout="constrained")
    for stage, axis in zip(stages, axes[0], strict=True):
        _plot(axis, _log(folder, stage), stage)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def _plot(axis: Axes, entries: list[dict[str, float]], stage: str) -> None:
    axis.semilogy([e["step"] for e in entries], [e["loss"] for e in entries], linewidth=1)
    axis.set(title=stage, xlabel="step", ylabel="loss, mean of 20 steps")
    axis.grid(True, which="both", alpha=0.3)


def _log(folder: Path, stage: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / f"{stage}-loss.jsonl").read_text().splitlines()]
