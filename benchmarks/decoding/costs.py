"""Tiled decoding against the undivided decode: work, memory, error, preview.

    python -m benchmarks.decoding.costs             tables and one JSON document as the last line
    python -m benchmarks.decoding.costs --parts costs   only some parts: costs, error, preview
    python -m benchmarks.decoding.costs --write     also renew results/decode-*.json
    python -m benchmarks.decoding.costs --pictures FOLDER   also draw the pictures of docs/decode.md

Work and memory are counted on meta tensors of the Stable Diffusion and SDXL decoder, so they hold
on any machine. Error is that of the bundled model's autoencoder; times are in decode_latency.py.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from benchmarks.decoding.scene import draw_errors, estimated, scene
from benchmarks.network import models
from benchmarks.network.allocations import Count
from hidiffusion.decode import (
    decode_tiles,
    encode_tiles,
    fit_preview,
    latents_to_rgb,
    scale,
    unscale,
)
from hidiffusion.decode.preview import SDXL_PREVIEW

RESULTS = Path(__file__).parents[1] / "results"
MODEL = Path(__file__).parents[2] / "models" / "fluent-emoji-256"
TILE = 512
GIB = 2**30
SIZES = (1024, 2048, 4096, 8192)


def sd_decoder(device: str, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    """Build the autoencoder that Stable Diffusion and SDXL share in shape, with random weights."""
    with torch.device(device):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=1024,
            scaling_factor=0.13025,
        )
    return vae.to(dtype).eval()


def narrow_vae() -> AutoencoderKL:
    """Build a decoder that a CPU runs at 4096x4096 in minutes: few channels, no attention."""
    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        mid_block_add_attention=False,
    ).eval()


def bundled_vae() -> AutoencoderKL:
    """Load the bundled model's autoencoder."""
    return AutoencoderKL.from_pretrained(MODEL / "vae").eval()


def drain(vae: AutoencoderKL, latents: Tensor) -> None:
    """Decode tile by tile and drop each."""
    for region in decode_tiles(vae, latents, tile=TILE):
        del region


def counted(run: Callable[[], object]) -> Count:
    """Count what a call does; its result is dropped."""
    with torch.no_grad(), Count() as count:
        run()
    return count


def costs() -> list[dict[str, Any]]:
    """Count work and live bytes of both decodes in float32, batch 1."""
    vae, rows = sd_decoder("meta"), []
    for size in SIZES:
        latents = torch.empty(1, 4, size // 8, size // 8, device="meta")
        whole = counted(lambda z=latents: vae.decode(z))
        ours = counted(lambda z=latents: drain(vae, z))
        rows.append(
            {
                "size": size,
                "tile": TILE,
                "undivided_flop": whole.flops,
                "flop": ours.flops,
                "undivided_peak": whole.peak,
                "peak": ours.peak,
                "peak_working": ours.peak_working,
            }
        )
    return rows


def compared(ours: Tensor, undivided: Tensor) -> dict[str, float]:
    """Give the largest and the mean absolute difference on [-1, 1]."""
    difference = (ours - undivided).abs()
    return {"max": difference.max().item(), "mean": difference.mean().item()}


def joined(vae: AutoencoderKL, latents: Tensor, like: Tensor, tile: int) -> Tensor:
    """Decode tile by tile and put the tiles together."""
    picture = torch.full_like(like, float("nan"))
    for region in decode_tiles(vae, latents, tile=tile):
        height, width = region.pixels.shape[2:]
        rows = slice(region.top, region.top + height)
        picture[:, :, rows, region.left : region.left + width] = region.pixels
    return picture


@torch.no_grad()
def error(size: int, pictures: Path | None) -> dict[str, Any]:
    """Measure how far each way of decoding is from the undivided decode of a drawn scene."""
    vae = bundled_vae()
    latents = encode_tiles(vae, scene(size)).mean
    undivided = vae.decode(latents).sample
    exact = bundled_vae().double().decode(latents.double()).sample
    ways = {"ours": joined(vae, latents, undivided, 256)}
    ways["estimated statistics"] = estimated(vae, latents)
    vae.enable_tiling()
    ways["enable_vae_tiling"] = vae.decode(latents).sample
    if pictures is not None:
        draw_errors(undivided, ways, pictures)
    rounding = {"undivided against float64": compared(undivided, exact)}
    return (
        {"size": size, "tile": 256}
        | rounding
        | {name: compared(picture, undivided) for name, picture in ways.items()}
    )


@torch.no_grad()
def preview() -> dict[str, Any]:
    """Compare a preview with a step of SDXL in FLOPs, and time it; fit one to the bundled model."""
    latents = torch.randn(1, 4, 512, 512)
    with torch.device("meta"):
        unet = models.build("sdxl")
    step = counted(lambda: unet(timestep=1, **models.arguments(unet, 4096, 4096)))
    linear = counted(lambda: latents_to_rgb(latents, SDXL_PREVIEW))
    begin = time.perf_counter()
    for _ in range(10):
        latents_to_rgb(latents, SDXL_PREVIEW)
    seconds = (time.perf_counter() - begin) / 10
    vae = bundled_vae()
    scaled = scale(vae, encode_tiles(vae, scene(512)).mean)
    factors = fit_preview(vae, scaled)
    target = torch.nn.functional.avg_pool2d(vae.decode(unscale(vae, scaled)).sample, 8)
    return {
        "size": 4096,
        "flop": linear.flops,
        "share_of_sdxl_step": linear.flops / step.flops,
        "milliseconds": round(1000 * seconds, 2),
        "bundled_fit_mean_error": compared(latents_to_rgb(scaled, factors), target)["mean"],
    }


def costs_table(rows: list[dict[str, Any]]) -> str:
    """Lay the counts out for people."""
    lines = [
        "| size | TFLOP undivided | ours | peak undivided | ours | ours, without kept maps |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        whole, peak = row["undivided_peak"] / GIB, row["peak"] / GIB
        lines.append(
            f"| {row['size']} | {row['undivided_flop'] / 1e12:.0f} "
            f"| {row['flop'] / row['undivided_flop']:.3f} times | {whole:.1f} GiB "
            f"| {peak:.1f} GiB | {row['peak_working'] / GIB:.2f} GiB |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    every = ("costs", "error", "preview")
    parser.add_argument("--parts", nargs="+", choices=every, default=every)
    parser.add_argument("--write", action="store_true", help="renew results/decode-*.json")
    parser.add_argument("--pictures", type=Path, help="draw the error pictures into this folder")
    options = parser.parse_args()
    runs: dict[str, Callable[[], Any]] = {
        "costs": costs,
        "error": lambda: error(1024, options.pictures),
        "preview": preview,
    }
    document = {part: runs[part]() for part in options.parts}
    if "costs" in document:
        print(costs_table(document["costs"]))
    for part, result in document.items():
        if options.write:
            (RESULTS / f"decode-{part}.json").write_text(json.dumps(result, indent=1) + "\n")
        if part != "costs":
            print(f"\n{part}", *(f"  {key}: {value}" for key, value in result.items()), sep="\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
