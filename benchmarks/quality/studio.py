"""Draws the pictures of a plan and keeps them, so that a stopped run goes on where it was."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
)
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks.quality.enlarge import enlarge
from benchmarks.quality.plan import MODEL, Job, Variant
from hidiffusion.methods import registry
from models.train.config import ROOT

CACHE = ROOT / ".cache" / "quality"
SCHEDULERS: dict[str, type[Any]] = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "dpm++": DPMSolverMultistepScheduler,
}
#: Pixels drawn at a time; four pictures of 512x512.
BATCH_PIXELS = 4 * 512**2

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Sampling:
    """How every picture is sampled."""

    steps: int = 25
    scheduler: str = "ddim"
    guidance_scale: float = 3.0
    precision: str = "bfloat16"

    def __str__(self) -> str:
        return f"{self.scheduler}-{self.steps}-{self.guidance_scale:g}-{self.precision}"


@dataclass
class Studio:
    """Draws pictures with the bundled model, each of them once.

    Args:
        sampling: How.
        device: Where.
        cache: Keeps the pictures, by model, sampling, size and method.
    """

    sampling: Sampling
    device: str = "cpu"
    cache: Path = CACHE
    fingerprint: str = field(init=False)
    _pipeline: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.fingerprint = fingerprint(MODEL)

    def file(self, job: Job) -> Path:
        """Return where a picture is or will be."""
        folder = self.cache / self.fingerprint / str(self.sampling) / str(job.size)
        return folder / _slug(str(job.variant)) / f"{_slug(job.prompt.text)}-{job.seed}.png"

    def draw(self, jobs: Iterable[Job]) -> None:
        """Draw what is missing, with a progress bar that counts pixels."""
        wanted = dict.fromkeys(job.drawn for job in jobs)
        missing = [job for job in wanted if not self.file(job).exists()]
        total = sum(job.size.pixels for job in missing)
        with tqdm(total=total, unit="px", unit_scale=True, desc="drawing") as bar:
            for batch in batches(missing):
                bar.set_postfix_str(f"{batch[0].variant} {batch[0].size}")
                for job, pixels in zip(batch, self.sample(batch), strict=True):
                    _write(self.file(job), pixels)
                    bar.update(job.size.pixels)

    def picture(self, job: Job) -> Pixels:
        """Return a picture, `[height, width, 3]`; a baseline is made from the native one."""
        if not job.variant.enlarges:
            return np.asarray(Image.open(self.file(job)))
        return enlarge(self.picture(job.drawn), job.size, job.variant)

    def sample(self, batch: list[Job]) -> Iterator[Pixels]:
        """Draw pictures of one size and method, and keep none."""
        pipe, job = self._loaded(), batch[0]
        seeds = tuple(job.seed for job in batch)
        kind = torch.bfloat16 if self.sampling.precision == "bfloat16" else torch.float32
        with torch.autocast(self.device, kind, enabled=kind != torch.float32):
            latents = (
                registry.get(job.variant.method)
                .generate(
                    pipe,
                    width=job.size.width,
                    height=job.size.height,
                    seed=seeds,
                    options=dict(job.variant.options),
                    prompt=[job.prompt.text for job in batch],
                    num_inference_steps=self.sampling.steps,
                    guidance_scale=self.sampling.guidance_scale,
                    output_type="latent",
                )
                .images
            )
        for latent in latents.float().split(1):
            yield _decode(pipe.vae, latent)

    def _loaded(self) -> Any:
        if self._pipeline is None:
            load: Any = StableDiffusionPipeline.from_pretrained
            pipe = load(MODEL, local_files_only=True)
            pipe.scheduler = SCHEDULERS[self.sampling.scheduler].from_config(pipe.scheduler.config)
            pipe.set_progress_bar_config(disable=True)
            self._pipeline = pipe.to(self.device)
        return self._pipeline


def known_variant(text: str) -> Variant:
    """Read a method with its options, of which there must be every one.

    Raises:
        ValueError: There is none of that name.
    """
    variant = Variant.parse(text)
    if not variant.enlarges:
        asked: dict[str, Any] = dict(variant.options)
        registry.get(variant.method).configure(**asked)
    return variant


def batches(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Split into runs of one size and method, each of `BATCH_PIXELS` or one picture."""
    for (size, _), group in itertools.groupby(jobs, key=lambda job: (job.size, job.variant)):
        count = max(1, BATCH_PIXELS // size.pixels)
        while batch := list(itertools.islice(group, count)):
            yield batch


def fingerprint(folder: Path) -> str:
    """Return a short hash of a model's weights: other weights are other pictures."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


@torch.no_grad()
def _decode(vae: Any, latent: torch.Tensor) -> Pixels:
    # In float32: bfloat16 has 8 bits for what the measure of detail looks at.
    pixels = vae.decode(latent / vae.config.scaling_factor).sample[0]
    values = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    drawn: Pixels = values.permute(1, 2, 0).cpu().numpy()
    return drawn


def _write(file: Path, pixels: Pixels) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    Image.fromarray(pixels).save(partial, format="PNG")
    partial.replace(file)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9=.]+", "-", text.lower())
