"""The machine: its name, and ceilings measured in the same minute as everything else."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import version

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.bench import Bench

#: Shapes of self-attention, [B, heads, tokens, channels of a head]: SDXL's first level with
#: attention at 4096x4096 with guidance, whole, and in the four windows of MSW-MSA.
ATTENTION = {"whole": (2, 10, 65536, 64), "windows": (8, 10, 16384, 64)}


def run(bench: Bench) -> None:
    """Name the machine; measure matrix products, copies and attention."""
    versions = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    bench.row("machine", processor=platform.processor() or platform.machine(), **versions)
    if bench.device.type == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv"]
        told = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        bench.row("driver", told=" ".join(told.split("\n")[1:2]), cuda=torch.version.cuda)
    products(bench)
    copies(bench)
    attention(bench)


def products(bench: Bench) -> None:
    """TFLOP/s of square matrix products."""
    side = 256 if bench.tiny else 8192
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        left, right = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
        taken = bench.seconds(lambda a=left, b=right: a @ b, warmup=3, repeats=9)
        bench.row(
            f"product of {side} x {side}, {dtype}", tflop_per_s=round(2 * side**3 / taken / 1e12, 2)
        )


def copies(bench: Bench) -> None:
    """GB/s of copies on the device, and from it to pinned memory."""
    count = 2**20 if bench.tiny else 2**30
    source = torch.empty(count, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    taken = bench.seconds(lambda: target.copy_(source))
    bench.row("copy on the device, read and written", gb_per_s=round(2 * count / taken / 1e9, 1))
    host = torch.empty(count, dtype=torch.uint8, pin_memory=bench.device.type == "cuda")
    taken = bench.seconds(lambda: host.copy_(source, non_blocking=True))
    bench.row("copy to pinned memory", gb_per_s=round(count / taken / 1e9, 1))


def attention(bench: Bench) -> None:
    """TFLOP/s of each attention kernel that the device has."""
    kernels = (
        [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
        if bench.device.type == "cuda"
        else [SDPBackend.MATH]
    )
    for name, (batch, heads, tokens, channels) in ATTENTION.items():
        length = 64 if bench.tiny else tokens
        shape = (batch, heads, length, channels)
        q, k, v = (torch.randn(shape, device=bench.device, dtype=bench.dtype) for _ in range(3))

        def call(parts: tuple[torch.Tensor, ...] = (q, k, v)) -> torch.Tensor:
            return functional.scaled_dot_product_attention(*parts)

        for kernel in kernels:
            bench.row(
                f"attention, {name} {shape}", kernel=kernel.name, **_rate(bench, kernel, call)
            )


def _rate(
    bench: Bench, kernel: SDPBackend, call: Callable[[], torch.Tensor]
) -> dict[str, float | str]:
    try:
        with sdpa_kernel(kernel):
            taken = bench.seconds(call)
            batch, heads, tokens, channels = call().shape
    except RuntimeError as error:
        return {"refused": str(error).splitlines()[0][:120]}
    flop = 4 * batch * heads * tokens**2 * channels
    return {"ms": round(1e3 * taken, 3), "tflop_per_s": round(flop / taken / 1e12, 2)}
