"""One U-Net step at real widths with guidance: direct, ours, compiled, and by attention kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.bench import Bench, free
from benchmarks.gpu.pipelines import Alone, side_of, unet
from benchmarks.network import flops, models
from benchmarks.network.unet import WORKER
from hidiffusion import apply_hidiffusion, remove_hidiffusion, set_attention_backend

CASES = (("sdxl", 4096), ("sdxl", 2048), ("sd15", 2048), ("sd15", 1024))
#: Names a folder with the authors' package and its older diffusers, unpacked; see the kit.
AUTHORS_SITE = "AUTHORS_SITE"
#: What is left when a case is still compiled.
COMPILE_SECONDS = 15
#: The most that the authors' package may take for a case.
AUTHORS_SECONDS = 30.0
#: Attention backends of diffusers, each timed where its package is installed.
PACKAGES = {"_flash_3": "flash_attn_interface", "sage": "sageattention"}
Surrounding = Callable[[Any], AbstractContextManager[object]]


def run(bench: Bench) -> None:
    """Time every stage of every case until the time is up; what must be compiled comes last."""
    work: dict[str, int] = {}
    for family, side in CASES:
        if bench.left < 10:
            bench.row(f"{family} {side}x{side}", skipped="out of time")
            continue
        case(bench, family, side, _kernels(bench), work)
        authors(bench, family, side)
    for family, side in CASES:
        if bench.left > (0 if bench.tiny else COMPILE_SECONDS):
            case(bench, family, side, {"ours, compiled": _compiled}, work)


@torch.no_grad()
def case(
    bench: Bench, family: str, side: int, variants: dict[str, Surrounding], work: dict[str, int]
) -> None:
    """Time one model at one size, and once a late step with windows on a further level.

    Args:
        bench: What is measured with.
        family: Of the model.
        side: In pixels, of the real model.
        variants: In what surroundings the patched model is called, by name.
        work: Operations by what is called, found by the first calls. Graphs would hide them.
    """
    model, name = unet(bench, family), f"{family} {side}x{side}"
    pipe, here = Alone.of(model), side_of(bench, side)
    arguments = models.arguments(model, here, here, batch=2)
    if "ours" in variants:
        _row(bench, f"{name} direct", _call(pipe, arguments, 0), work, f"{name} direct")

    def patched_rows(variant: str, stages: list[tuple[str, int, int]]) -> None:
        for stage, first, steps in stages:
            what = f"{name} {variant}, {stage} ({steps} of {flops.STEPS})"
            _row(bench, what, _call(pipe, arguments, first), work, f"{name} {stage}")

    for variant, surrounding in variants.items():
        apply_hidiffusion(pipe)
        with surrounding(model):
            patched_rows(variant, _stages(family, side))
        remove_hidiffusion(pipe)
        if bench.left < 8:
            break
    else:
        if "ours" in variants:
            apply_hidiffusion(pipe, config=flops.LATE)
            patched_rows("ours", _stages(family, side, flops.LATE_NAME)[-1:])
            remove_hidiffusion(pipe)
    free()


def _stages(family: str, side: int, method: str = "both") -> list[tuple[str, int, int]]:
    found = flops.stages(family, side, side, method)
    return [(flops.mechanisms(active, method), first, steps) for active, first, steps in found]


def _kernels(bench: Bench) -> dict[str, Surrounding]:
    if bench.device.type == "cpu":
        return {"ours": lambda _: nullcontext()}
    return {
        "ours": lambda _: nullcontext(),
        "ours, cuDNN first": lambda _: sdpa_kernel(
            [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True
        ),
        "ours, Flash first": lambda _: sdpa_kernel(
            [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION], set_priority=True
        ),
        **{
            f"ours, {backend}": partial(_attending, backend)
            for backend, package in PACKAGES.items()
            if find_spec(package) is not None
        },
    }


@contextmanager
def _attending(backend: str, model: Any) -> Iterator[None]:
    """Compute attention by a backend of diffusers."""
    set_attention_backend(model, backend)
    try:
        yield
    finally:
        model.reset_attention_backend()


@contextmanager
def _compiled(model: Any) -> Iterator[None]:
    """Compile the repeated blocks; a fresh model in the next case is not compiled."""
    backend = "inductor" if model.device.type == "cuda" else "eager"
    model.compile_repeated_blocks(backend=backend, dynamic=False)
    yield


def _call(pipe: Any, arguments: dict[str, Any], step: int) -> Callable[[], object]:
    timestep = pipe.scheduler.timesteps[step]
    return lambda: pipe.unet(timestep=timestep, **arguments)


def _row(
    bench: Bench, what: str, call: Callable[[], object], work: dict[str, int], key: str
) -> None:
    if what in bench.known:
        return
    if key not in work:
        with FlopCounterMode(display=False) as counter:
            call()
        work[key] = counter.get_total_flops()
    with bench.memory() as peak:
        taken = bench.seconds(call, warmup=2, repeats=5)
    rate = work[key] / taken / 1e12
    bench.row(what, ms=round(1e3 * taken, 2), tflop_per_s=round(rate, 2), **peak)


def authors(bench: Bench, family: str, side: int) -> None:
    """Time the authors' package in the same minute, where its environment travels along."""
    site = os.environ.get(AUTHORS_SITE)
    if not site:
        return
    stages = _stages(family, side)
    here = 512 if bench.tiny else side
    job = {
        "variant": "authors",
        "family": family,
        "height": here,
        "pixel_width": here,
        "steps": [first for _, first, _ in stages],
        "device": bench.device.type,
        "dtype": str(bench.dtype).removeprefix("torch."),
        "width": 0.1 if bench.tiny else 1.0,
        "batch": 2,
        "threads": 1,
        "warmup": 1 if bench.tiny else 2,
        "repeats": 1 if bench.tiny else 5,
    }
    try:
        told = subprocess.run(
            [sys.executable, "-W", "ignore", str(WORKER)],
            input=json.dumps(job),
            env={**os.environ, "PYTHONPATH": site},
            cwd=WORKER.parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=min(AUTHORS_SECONDS, max(1.0, bench.left)),
        )
    except subprocess.SubprocessError as error:
        written = getattr(error, "stderr", None) or ""
        bench.row(f"{family} {side}x{side} authors", failed=f"{error}; {written[-300:]!r}")
        return
    times = json.loads(told.stdout.splitlines()[-1])["milliseconds"]
    for name, first, steps in stages:
        what = f"{family} {side}x{side} authors, {name} ({steps} of {flops.STEPS})"
        bench.row(what, ms=round(times[str(first)], 2))
