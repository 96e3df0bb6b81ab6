"""From the last latents to pixels: exact tiles, the undivided decode, and diffusers' tiling.

And the attention of the middle block by itself: its one head is as wide as the map has channels,
512, for which neither FlashAttention nor cuDNN has a kernel.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu.bench import Bench, free
from benchmarks.gpu.pipelines import autoencoder
from hidiffusion.decode import decode_tiles

#: What is left when a decode still begins.
LEAST_SECONDS = 5

#: Queries at a time of the attention by matrix products: 2 GiB of scores at 4096x4096.
_QUERIES = 2048


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
        for side in latents:
            if bench.left > 2 * LEAST_SECONDS:
                attention(bench, side)
        side = min(latents)
        if bench.left > LEAST_SECONDS:
            exact(bench, vae, latents[side], side, "cpu")


def attention(bench: Bench, side: int) -> None:
    """Seconds of the middle block's attention, by torch's choice of kernel and by products."""
    width = 32 if bench.tiny else 512
    name = f"{side}x{side}, attention of one head {width} wide"
    if name in bench.known:
        return
    shape = (1, 1, (side // 8) ** 2, width)
    query, key, value = (
        torch.randn(shape, device=bench.device, dtype=bench.dtype) for _ in range(3)
    )
    torchs = partial(scaled_dot_product_attention, query, key, value)
    products = partial(by_products, query[0, 0], key[0, 0], value[0, 0])
    bench.row(
        name,
        torch_s=round(bench.seconds(torchs, warmup=1, repeats=2), 4),
        products_s=round(bench.seconds(products, warmup=1, repeats=2), 4),
        largest_difference=float((torchs()[0, 0] - products()).abs().max()),
    )
    free()


def by_products(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention of `[tokens, width]` by two matrix products for some queries at a time."""
    attended = torch.empty_like(query)
    for rows in range(0, len(query), _QUERIES):
        some = query[rows : rows + _QUERIES]
        if query.is_cuda:
            scores = torch.mm(some, key.T, out_dtype=torch.float32)
        else:
            scores = some.float() @ key.T.float()
        weights = scores.mul_(query.shape[1] ** -0.5).softmax(-1).to(value.dtype)
        attended[rows : rows + _QUERIES] = weights @ value
    return attended


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
