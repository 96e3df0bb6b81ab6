"""What the hooks of a patched U-Net cost a call, against the same U-Net unpatched.

    python -m benchmarks.network.hook_overhead --before 9c3331e --write

Both compute the same: at native size, where nothing acts, and at twice the side with one window and
no shrinking, where every hook does its work. Told are the time inside the hooks, the median of the
calls, which a busy machine hardly changes; and the time of a call against the rival's, the fastest
of each, which needs an idle one. The U-Nets have few channels, and the levels and blocks of the
published models, so this is the worst ratio there is. --before measures an earlier commit of this
repository in the same run. Prints a table for people and JSON as its last line.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import nn

from benchmarks.network import models
from hidiffusion import HiDiffusionConfig, apply_hidiffusion

ROOT = Path(__file__).parents[2]
RESULT = Path(__file__).parents[1] / "results" / "hook-overhead.json"
NATIVE = 64  # pixels: maps so small that the blocks' own overhead is most of a call
STEPS = 50
NO_SHRINKING = {"t1_ratio": 0.0, "t2_ratio": 0.0, "aggressive_ratio": 0.0}
#: What makes the published U-Nets small.
FAMILIES: dict[str, dict[str, Any]] = {
    "sd15": {"block_out_channels": (8, 8, 16, 16), "attention_head_dim": 2},
    "sdxl": {
        "block_out_channels": (8, 8, 16),
        "attention_head_dim": (2, 2, 4),
        "transformer_layers_per_block": (1, 2, 1),
    },
}


class HookTimer:
    """Stands in for every hook of a model and sums the seconds spent in them."""

    def __init__(self, model: nn.Module) -> None:
        self.seconds = 0.0
        for module in model.modules():
            for hooks in (module._forward_pre_hooks, module._forward_hooks):
                for key, hook in tuple(hooks.items()):
                    hooks[key] = self._timed(hook)

    def _timed(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            answer = hook(*args, **kwargs)
            self.seconds += time.perf_counter() - begin
            return answer

        return timed


def measure(family: str, scale: int, rounds: int) -> dict[str, Any]:
    """Call both in turn.

    Args:
        family: a key of `benchmarks.network.models.CONFIGS`.
        scale: side of the picture in native sides.
        rounds: pairs of calls that are timed.
    """
    small = {"sample_size": NATIVE // 8, "cross_attention_dim": 16, "norm_num_groups": 4}
    torch.manual_seed(0)
    plain, patched = (models.build(family, **small, **FAMILIES[family]) for _ in range(2))
    patched.load_state_dict(plain.state_dict())
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(STEPS)
    config = HiDiffusionConfig(window_grid=1, shifts=lambda **_: 0, **NO_SHRINKING)
    apply_hidiffusion(patched, config=config, scheduler=scheduler)
    inputs = models.arguments(plain, NATIVE * scale, NATIVE * scale, batch=2)
    seconds: dict[Any, list[float]] = {plain: [], patched: []}
    with torch.no_grad():
        same = torch.allclose(
            plain(timestep=scheduler.timesteps[0], **inputs).sample,
            patched(timestep=scheduler.timesteps[0], **inputs).sample,
            atol=1e-4,
        )
        for index in range(rounds):
            timestep = scheduler.timesteps[index % STEPS]
            for model in (plain, patched) if index % 2 else (patched, plain):
                begin = time.thread_time()
                model(timestep=timestep, **inputs)
                seconds[model].append(time.thread_time() - begin)
        timer, inside = HookTimer(patched), []
        for index in range(rounds):
            timer.seconds = 0.0
            patched(timestep=scheduler.timesteps[index % STEPS], **inputs)
            inside.append(timer.seconds)
    call = min(seconds[plain])
    return {
        "family": family,
        "scale": scale,
        "same": same,
        "hooks_us": round(statistics.median(inside) * 1e6, 1),
        "unpatched_ms": round(call * 1e3, 3),
        "ratio": round(min(seconds[patched]) / call, 4),
    }


def measured(rounds: int) -> list[dict[str, Any]]:
    """Return the rows of every family and size, with the library that is imported."""
    return [measure(family, scale, rounds) for family in FAMILIES for scale in (1, 2)]


def of_commit(commit: str, rounds: int) -> list[dict[str, Any]]:
    """Return the same rows with the library of a commit, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        tree = subprocess.run(
            ["git", "archive", commit, "hidiffusion"], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=tree.stdout, check=True)
        path = os.pathsep.join([folder, str(ROOT), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [
                sys.executable,
                "-P",
                "-m",
                "benchmarks.network.hook_overhead",
                "--rounds",
                str(rounds),
            ],
            env=os.environ | {"PYTHONPATH": path},
            check=True,
            stdout=subprocess.PIPE,
        )
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])["now"]
    return rows


def table(document: dict[str, Any]) -> str:
    """Lay the rows out for people."""
    columns = [name for name in ("now", "before") if name in document]
    lines = [
        "| U-Net | size | unpatched (ms) | "
        + " | ".join(f"{name} (µs)" for name in columns)
        + " |",
        "| --- | --- | ---: |" + " ---: |" * len(columns),
    ]
    for rows in zip(*(document[name] for name in columns), strict=True):
        head = rows[0]
        size = "native" if head["scale"] == 1 else f"{head['scale']} times native"
        cells = " | ".join(f"{row['hooks_us']:.0f} µs ({row['ratio']:.3f}x)" for row in rows)
        lines.append(f"| {head['family']} | {size} | {head['unpatched_ms']:.1f} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and, if asked to, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.network.hook_overhead", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=200, help="pairs of calls a row")
    parser.add_argument("--before", metavar="COMMIT", help="measure this commit too")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    document: dict[str, Any] = {"rounds": options.rounds, "machine": platform.machine()}
    document["load_average"] = round(os.getloadavg()[0], 1)
    document["now"] = measured(options.rounds)
    if options.before:
        document["commit"] = options.before
        document["before"] = of_commit(options.before, options.rounds)
    print(table(document))
    if options.write:
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
