"""Measurements for the model card: losses, reconstruction error and sizes."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from diffusers import AutoencoderKL
from matplotlib.axes import Axes

from models.train.config import TrainConfig
from models.train.samples import reconstruction_sheet
from models.train.unet import noun_pictures
from models.train.vae import psnr

STAGES = ("vae", "decoder", "unet")


def report(config: TrainConfig) -> dict[str, float]:
    """Draws the loss curves and measures the exported model.

    Args:
        config: The run's configuration.

    Returns:
        Figures for the model card: steps and hours per stage, PSNR in dB, size in MB.
    """
    plot_losses(config.paths.checkpoints, config.paths.images / "model-loss.png")
    pictures = noun_pictures(config)
    vae = AutoencoderKL.from_pretrained(config.paths.model, subfolder="vae").eval()
    reconstruction_sheet(vae, pictures[::3], config.paths.images / "model-reconstructions.png")
    decibels = psnr(vae, pictures)
    files = [file for file in config.paths.model.rglob("*") if file.is_file()]
    figures = {
        "psnr_mean_db": float(decibels.mean()),
        "psnr_worst_db": float(decibels.min()),
        "size_mb": sum(file.stat().st_size for file in files) / 1e6,
    }
    for stage in STAGES:
        state = torch.load(config.paths.checkpoints / f"{stage}.pt", weights_only=True)
        figures |= {f"{stage}_steps": state["step"], f"{stage}_minutes": state["elapsed"] / 60}
    return figures


def plot_losses(folder: Path, file: Path) -> None:
    """Draws the stages' losses over steps, on a logarithmic scale."""
    figure, axes = plt.subplots(1, len(STAGES), figsize=(12, 3.5), layout="constrained")
    for stage, axis in zip(STAGES, axes, strict=True):
        _plot(axis, folder / f"{stage}-loss.jsonl", stage)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def _plot(axis: Axes, log: Path, stage: str) -> None:
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    axis.semilogy([e["step"] for e in entries], [e["loss"] for e in entries], linewidth=1)
    axis.set(title=stage, xlabel="step", ylabel="loss, mean of 20 steps")
    axis.grid(True, which="both", alpha=0.3)
