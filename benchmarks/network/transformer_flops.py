"""Count the operations of diffusion transformers, a call and a picture, on meta tensors.

    python -m benchmarks.network.transformer_flops        the tables and one JSON document
    python -m benchmarks.network.transformer_flops --write also renew results/transformer-flops.json

Counted are matrix products and attention of the transformer at batch 1; guidance doubles them
where a model is guided by two calls (SD3.5, Qwen-Image). Nothing is executed, so it is exact on any
machine.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler

from benchmarks.network import cost
from benchmarks.network.transformer_cost import flop_of_call
from hidiffusion.methods.registry import METHODS

RESULTS = Path(__file__).parents[1] / "results" / "transformer-flops.json"
SIDES = (2048, 4096)
STEPS = 28
ROWS = ("direct", "positions", "token-windows", "refine")

#: Class, what differs from the class's defaults, and tokens of text, of each published model.
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "Flux.1-dev": ("FluxTransformer2DModel", {"guidance_embeds": True}, 512),
    "SD3.5-L": (
        "SD3Transformer2DModel",
        {
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "pos_embed_max_size": 192,
            "qk_norm": "rms_norm",
        },
        333,
    ),
    "Qwen-Image": ("QwenImageTransformer2DModel", {}, 512),
    "Z-Image": ("ZImageTransformer2DModel", {}, 256),
    "Flux.2-dev": ("Flux2Transformer2DModel", {}, 512),
}


class SizedPipeline(DiffusionPipeline):
    """A transformer and its scheduler with the number of pixels a latent."""

    vae_scale_factor = 8

    def __init__(self, transformer: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)

    def __call__(self, num_inference_steps: int = STEPS) -> None:
        """Run nothing: only its steps are counted."""


def pipeline(name: str) -> SizedPipeline:
    """Build a published model without storage."""
    kind, changes, _ = MODELS[name]
    with torch.device("meta"):
        model = getattr(diffusers, kind)(**changes)
    return SizedPipeline(model, FlowMatchEulerDiscreteScheduler(shift=3.0))


def calls(name: str) -> dict[str, Any]:
    """Count one call at native size, and beyond it in full and in windows."""
    pipe, text = pipeline(name), MODELS[name][2]
    counted: dict[str, Any] = {"1024": {"full": flop_of_call(pipe.transformer, 64, 64, text, 1)}}
    for side in SIDES:
        tokens = side // 16
        grids: dict[str, int] = {"full": 1, "2x2": 2, "4x4": 4, "8x8": 8}
        counted[str(side)] = {
            label: flop_of_call(pipe.transformer, tokens, tokens, text, grid)
            for label, grid in grids.items()
        }
    return counted


def pictures(name: str) -> dict[str, Any]:
    """Count a picture of 28 steps by every method."""
    pipe, text = pipeline(name), MODELS[name][2]
    return {
        str(side): {
            method: cost.flop(
                pipe, METHODS[method].passes(pipe, width=side, height=side), text=text
            )
            for method in ROWS
        }
        for side in SIDES
    }


def tables(document: dict[str, Any]) -> str:
    """Write both tables for benchmarks/README.md."""
    lines = ["| model | size | full | 2x2 | 4x4 | 8x8 |", "| --- | --- | --- | --- | --- | --- |"]
    for name, entry in document["calls"].items():
        for side, row in entry.items():
            full = row["full"]
            cells = [f"{full / 1e12:,.0f}"]
            cells += [
                f"{row[grid] / 1e12:,.0f} ({full / row[grid]:.2f}x)" if grid in row else ""
                for grid in ("2x2", "4x4", "8x8")
            ]
            lines.append(f"| {name} | {side} | " + " | ".join(cells) + " |")
    lines += ["", "| model | size | " + " | ".join(ROWS) + " |", "| --- " * (len(ROWS) + 2) + "|"]
    for name, entry in document["pictures"].items():
        for side, row in entry.items():
            cells = [f"{row[method] / 1e15:.1f}" for method in ROWS]
            cells[-1] += f" ({row['refine'] / row['direct']:.0%})"
            lines.append(f"| {name} | {side} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Count, print and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew the result document")
    document = {
        "calls": {name: calls(name) for name in MODELS},
        "pictures": {name: pictures(name) for name in MODELS},
    }
    print(tables(document))
    if parser.parse_args().write:
        RESULTS.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
