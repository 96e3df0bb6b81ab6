"""Count the operations of a whole picture for every method, on meta tensors.

    python -m benchmarks.network.method_flops       the table and one JSON document as the last line
    python -m benchmarks.network.method_flops --write also renew results/method-flops.json

Counted are convolutions, matrix products and attention of the SDXL U-Net, with guidance (two calls
a step), and of its autoencoder where a method decodes and encodes on the way; the last decode is
left out, which all methods share. Nothing is executed.
"""

import argparse
import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.network import cost, models
from hidiffusion.methods.generation.passes import Pass
from hidiffusion.methods.registry import METHODS

RESULTS = Path(__file__).parents[1] / "results" / "method-flops.json"
STEPS = 50
SIDES = (2048, 4096)
#: Methods with options: the published settings, and the faster or stronger ones.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "direct": ("direct", {}),
    "hidiffusion": ("hidiffusion", {}),
    "upsample-guidance": ("upsample-guidance", {}),
    "upsample-guidance, hidiffusion": ("upsample-guidance", {"denoiser": "hidiffusion"}),
    "diffuse-high": ("diffuse-high", {}),
    "diffuse-high, latents": ("diffuse-high", {"space": "latents"}),
    "diffuse-high, hidiffusion": ("diffuse-high", {"space": "latents", "denoiser": "hidiffusion"}),
    "hidiffusion-guided": ("hidiffusion-guided", {}),
    "hidiffusion-refresh": ("hidiffusion-refresh", {}),
}
#: stabilityai/stable-diffusion-xl-base-1.0, vae/config.json.
_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "sample_size": 1024,
}


class SizedPipeline(DiffusionPipeline):
    """A U-Net and its scheduler with the number of pixels a latent."""

    vae_scale_factor = 8

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)


@cache
def coding_flop(side: int) -> tuple[int, int]:
    """Return the FLOPs of a decode and of an encode of a square picture."""
    with torch.device("meta"):
        vae = AutoencoderKL(**_VAE)
        latents, picture = torch.empty(1, 4, side // 8, side // 8), torch.empty(1, 3, side, side)
    with FlopCounterMode(display=False) as decode, torch.no_grad():
        vae.decode(latents)
    with FlopCounterMode(display=False) as encode, torch.no_grad():
        vae.encode(picture)
    return decode.get_total_flops(), encode.get_total_flops()


def coding(method: str, options: dict[str, Any], passes: list[Pass]) -> int:
    """Return the FLOPs of the autoencoder between and within passes."""
    total = 0
    for before, after in itertools.pairwise(passes):
        total += coding_flop(before.height)[0] + coding_flop(after.height)[1]
    if method == "diffuse-high" and options.get("space") != "latents":
        config = METHODS[method].configure(**options)
        held = config.band_steps * passes[-1].calls // config.noising_steps
        total += sum(held * sum(coding_flop(each.height)) for each in passes[1:])
    return total


def count() -> dict[str, dict[str, dict[str, int]]]:
    """Return for each side and variant the FLOPs of the U-Net and of the autoencoder."""
    with torch.device("meta"):
        pipe = SizedPipeline(models.build("sdxl"), DDIMScheduler())
    return {
        f"{side}x{side}": {
            label: _count_one(pipe, side, method, options)
            for label, (method, options) in VARIANTS.items()
        }
        for side in SIDES
    }


def _count_one(pipe: Any, side: int, method: str, options: dict[str, Any]) -> dict[str, int]:
    size = {"width": side, "height": side}
    row = METHODS[method]
    passes = row.passes(pipe, **size, options=options, num_inference_steps=STEPS)
    return {"unet": 2 * cost.flop(pipe, passes), "autoencoder": coding(method, options, passes)}


def markdown(sizes: dict[str, dict[str, dict[str, int]]]) -> str:
    """Lay the counts out for people."""
    lines = [
        "| size | method | U-Net, TFLOP | autoencoder, TFLOP | together | of direct |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for size, variants in sizes.items():
        direct = sum(variants["direct"].values())
        for label, counts in variants.items():
            unet, coded = counts["unet"] / 1e12, counts["autoencoder"] / 1e12
            share = sum(counts.values()) / direct
            lines.append(
                f"| {size} | {label} | {unet:.0f} | {coded:.0f} | {unet + coded:.0f} "
                f"| {share:.0%} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"renew {RESULTS.name}")
    options = parser.parse_args()
    document = {"unit": "FLOP", "model": "sdxl", "steps": STEPS, "guidance": True, "sizes": count()}
    if options.write:
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(markdown(document["sizes"]))
    print(json.dumps(document))


if __name__ == "__main__":
    main()
