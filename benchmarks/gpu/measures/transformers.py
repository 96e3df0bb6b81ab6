"""A Flux-shaped call at 4096x4096, in full and in 4x4 windows; Inf-DiT's chunks beside it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

from benchmarks.gpu.bench import Bench, free
from hidiffusion import transformer
from hidiffusion.inf_dit import InfDiTTransformer

#: Blocks that are timed, and blocks of Flux.1: every double and every single block does the same.
TIMED = {"num_layers": 1, "num_single_layers": 2}
WHOLE = {"num_layers": 19, "num_single_layers": 38}
TEXT_TOKENS = 512
#: A miniature of Inf-DiT's structure.
_TINY_INF_DIT = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16}


def run(bench: Bench) -> None:
    """Time Flux's blocks with and without windows, then Inf-DiT's chunks."""
    with torch.no_grad():
        flux(bench)
        free()
        if bench.left > 8:
            inf_dit(bench)


def flux(bench: Bench) -> None:
    """Time one double and two single blocks of Flux.1 at real width, batch 1."""
    tiny = {"num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 16}
    with torch.device(bench.device):
        model: Any = FluxTransformer2DModel(
            guidance_embeds=True, **TIMED, **(tiny if bench.tiny else {})
        ).to(bench.dtype)
    side = 16 if bench.tiny else 256
    call = partial(model, **_flux_inputs(model, side, 8 if bench.tiny else TEXT_TOKENS))
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(2, device=bench.device)
    full = 0.0
    for windows in (1, 4):
        config = transformer.TransformerConfig(
            window_grid=windows,
            full_share=0,
            native_tokens=side // 4,
            time_shift="pipeline",
        )
        transformer.apply(model, config, scheduler=scheduler)
        with bench.memory() as peak:
            taken = bench.seconds(call)
        transformer.remove(model)
        full = full or taken
        bench.row(
            f"Flux-shaped {16 * side}x{16 * side}, {windows}x{windows} windows",
            blocks=f"{TIMED['num_layers']} + {TIMED['num_single_layers']} "
            f"of {WHOLE['num_layers']} + {WHOLE['num_single_layers']}",
            ms=round(1e3 * taken, 2),
            full_over_this=round(full / taken, 2),
            **peak,
        )


def _flux_inputs(model: Any, side: int, text: int) -> dict[str, Any]:
    config, where = model.config, {"device": model.device, "dtype": model.dtype}
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    places = torch.stack((torch.zeros_like(rows), rows, columns), -1).flatten(0, 1)
    return {
        "hidden_states": torch.randn(1, side * side, config.in_channels, **where),
        "encoder_hidden_states": torch.randn(1, text, config.joint_attention_dim, **where),
        "pooled_projections": torch.randn(1, config.pooled_projection_dim, **where),
        "timestep": torch.tensor([1.0], **where),
        "guidance": torch.tensor([3.5], **where),
        "img_ids": places.to(**where),
        "txt_ids": torch.zeros(text, 3, **where),
    }


def inf_dit(bench: Bench) -> None:
    """One evaluation of Inf-DiT at 2048x2048, whole where it fits, and in chunks of 4x4 blocks."""
    with torch.device(bench.device):
        model: Any = InfDiTTransformer(**_TINY_INF_DIT) if bench.tiny else InfDiTTransformer()
    model = model.to(bench.dtype).eval()
    side = 2 * model.config.block_size if bench.tiny else 2048
    large = torch.randn(1, 3, side, side, device=bench.device)
    small = torch.randn(1, 3, side // 4, side // 4, device=bench.device)
    embedding = torch.zeros(1, model.config.image_embed_dim, device=bench.device)
    for chunk in (1, 4):
        with bench.memory() as peak:
            taken = bench.seconds(
                partial(
                    model.denoise,
                    large,
                    1.0,
                    lr=small,
                    lr_up=large,
                    image_embeds=embedding,
                    chunk_blocks=chunk,
                ),
                warmup=1,
                repeats=2,
            )
        bench.row(
            f"Inf-DiT {side}x{side}, chunks of {chunk}x{chunk} blocks",
            seconds=round(taken, 3),
            **peak,
        )
