"""The same numbers as on a CPU: float64 is the truth, the device's own where a CPU takes long."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from diffusers import AutoencoderKL

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.pipelines import Alone, picture, sdxl, side_of, unet
from benchmarks.network import flops, models
from hidiffusion import apply_hidiffusion, remove_hidiffusion
from hidiffusion.decode import DecodedTile, decode_tiles

#: Factor on the channels of the U-Nets: enough to see every rounding, cheap in float64.
WIDTH = 0.2


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Compute float32 in float32: no TF32, and the same kernels each time."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
        torch.backends.cudnn.deterministic = False


def run(bench: Bench) -> None:
    """Compare U-Net calls, repeated pictures and decodes."""
    with torch.no_grad(), exact_products():
        for family, side in (("sdxl", 2048), ("sd15", 1024)):
            calls(bench, family, side)
        repeated(bench)
        decoded(bench)


def calls(bench: Bench, family: str, side: int) -> None:
    """Errors of patched U-Net calls in every stage of the schedule, relative to the largest.

    The truth is float64 on the device itself, once held against a processor's, which takes far
    longer.
    """
    model = unet(bench, family, WIDTH).double()
    here = side_of(bench, side)
    arguments = models.arguments(model, here, here)
    for number, (active, step, _) in enumerate(flops.stages(family, side, side)):
        truth = _call(model, arguments, step)
        name = f"{family} {side}x{side}, {flops.mechanisms(active, 'both')}"
        if number == 0 and family == "sd15":
            host = torch.device("cpu")
            again = _call(
                copy.deepcopy(model).to(host), _moved(arguments, host, torch.float64), step
            )
            error = (again - truth.cpu()).abs().max() / again.abs().max()
            bench.row(f"{name}, float64 here against a processor's", error=float(f"{error:.2e}"))
        figures = {}
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            there = _moved(arguments, bench.device, dtype)
            found = _call(copy.deepcopy(model).to(bench.device, dtype), there, step)
            error = (found.double() - truth).abs().max() / truth.abs().max()
            figures[str(dtype)] = float(f"{error.item():.2e}")
        bench.row(f"{name}, error against float64", **figures)


def _moved(arguments: dict[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    return {
        name: _moved(value, device, dtype) if isinstance(value, dict) else value.to(device, dtype)
        for name, value in arguments.items()
    }


def _call(model: Any, arguments: dict[str, Any], step: int) -> torch.Tensor:
    pipe = Alone.of(model)
    apply_hidiffusion(pipe)
    sample: torch.Tensor = model(timestep=pipe.scheduler.timesteps[step].item(), **arguments).sample
    remove_hidiffusion(pipe)
    return sample


def repeated(bench: Bench) -> None:
    """The same seed gives the same picture: hashes of three runs, another picture between."""
    pipe = sdxl(bench, width=WIDTH)
    side = side_of(bench, 2048)
    steps = 3 if bench.tiny else 6
    hashes = []
    for seed in (1, 2, 1):
        latents = picture(pipe, "hidiffusion", side, steps, seed=seed, output_type="latent")
        hashes.append(hashlib.sha256(latents.float().cpu().numpy().tobytes()).hexdigest()[:12])
    bench.row(
        "same seed, same latents", equal=hashes[0] == hashes[2], differs=hashes[0] != hashes[1]
    )


def decoded(bench: Bench) -> None:
    """Tiles against the undivided decode."""
    torch.manual_seed(0)
    vae: Any = cast("Any", AutoencoderKL)(
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
    ).eval()
    side = 32 if bench.tiny else 128
    latents = torch.randn(1, 4, side, side)
    for dtype in (torch.float32, torch.bfloat16):
        there, coder = latents.to(bench.device, dtype), vae.to(bench.device, dtype)
        whole = coder.decode(there / coder.config.scaling_factor).sample
        error = max(
            (tile.pixels.float() - _at(whole, tile).float()).abs().max().item()
            for tile in decode_tiles(coder, there / coder.config.scaling_factor, tile=128)
        )
        bench.row(
            f"decode {8 * side}x{8 * side}, {dtype}",
            largest_difference=float(f"{error:.2e}"),
            largest_value=round(whole.abs().max().item(), 3),
        )


def _at(whole: torch.Tensor, tile: DecodedTile) -> torch.Tensor:
    height, width = tile.pixels.shape[-2:]
    return whole[..., tile.top : tile.top + height, tile.left : tile.left + width]
