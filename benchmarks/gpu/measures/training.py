"""Training of the bundled model in the time that is left; what it learns stays where it ran."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.bench import Bench
from models.train.profiles import profile

ROOT = Path(__file__).parents[3]


def run(bench: Bench) -> None:
    """Train by the profile for GPUs if its pictures travelled along, and say how fast it went."""
    config = profile("gpu")
    if not any(config.paths.cache.glob("*")):
        remedy = "python -m models.train data --profile gpu"
        bench.row("training", skipped=f"no pictures in {config.paths.cache}; make them: {remedy}")
        return
    seconds = max(10, int(bench.left) - 10)
    command = [sys.executable, "-m", "models.train", "vae", "unet", "--profile", "gpu"]
    command += ["--budget", str(seconds), "--device", bench.device.type]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line for line in told.stdout.splitlines() if re.search(r"loss", line)]
    bench.row("training", budget_seconds=seconds, last_line=lines[-1] if lines else "none")
