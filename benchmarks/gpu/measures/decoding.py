"""From the last latents to pixels: exact tiles, the undivided decode, and diffusers' tiling."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.bench import Bench, free
from benchmarks.gpu.pipelines import autoencoder
from hidiffusion.decode import decode_tiles

#: What is left when a decode still begins.
LEAST_SECONDS = 5


def run(bench: Bench) -> None:
    """Decode at both sizes, each way; maps on the host, which take longest, come last."""
    vae = autoencoder(bench)
    latents = {}
    with torch.no_grad():
        for real in (2048, 4096):
            side = real // 8 if bench.tiny else real
            shape = (1, 4, side // 8, side // 8)
            latents[side] = torch.randn(shape, device=bench.device, dtype=vae.dtype)
            exact(bench, vae, latents[side], side, None)
        for side, values in latents.items():
            for name, tiled in (("undivided", False), ("enable_vae_tiling", True)):
                if bench.left > LEAST_SECONDS:
                    at_once(bench, vae, values, f"{side}x{side}, {name}", tiled)
        side = min(latents)
        if bench.left > LEAST_SECONDS:
            exact(bench, vae, latents[side], side, "cpu")


def at_once(bench: Bench, vae: Any, latents: torch.Tensor, name: str, tiled: bool) -> None:
    """Seconds and memory of diffusers' own decode."""
    if name in bench.known:
        return
    vae.enable_tiling() if tiled else vae.disable_tiling()
    try:
        with bench.memory() as peak:
            taken = bench.seconds(partial(vae.decode, latents), warmup=1, repeats=2)
        bench.row(name, seconds=round(taken, 3), **peak)
    except torch.OutOfMemoryError:
        bench.row(name, failed="out of memory")
    finally:
        vae.disable_tiling()
        free()


def exact(bench: Bench, vae: Any, latents: torch.Tensor, side: int, storage: str | None) -> None:
    """Seconds to the first and the last exact tile, on the host, and the most memory."""
    where = "maps on the device" if storage is None else "maps on the host"
    name = f"{side}x{side}, exact tiles, {where}"
    if name in bench.known:
        return
    for _ in range(1 if bench.tiny or storage else 2):
        first = last = 0.0
        with bench.memory() as peak:
            bench.synchronize()
            begin = time.perf_counter()
            for tile in decode_tiles(vae, latents, storage=storage):
                tile.pixels.cpu()
                last = time.perf_counter() - begin
                first = first or last
    bench.row(
        name,
        first_tile_s=round(first, 3),
        last_tile_s=round(last, 3),
        **peak,
    )
