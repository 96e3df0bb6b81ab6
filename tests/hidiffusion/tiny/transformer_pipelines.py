"""Pipelines around the tiny transformers; prompts are given as embeddings, drawn from a seed."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2Pipeline,
    FluxPipeline,
    QwenImagePipeline,
    StableDiffusion3Pipeline,
    ZImagePipeline,
)

from tests.hidiffusion.tiny.transformers import FAMILIES, TEXT


def pipeline(family: str, dtype: torch.dtype = torch.float32) -> Any:
    """Build a pipeline; native pictures have 128 pixels a side."""
    dynamic = family != "sd3"
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=dynamic, base_image_seq_len=16, max_image_seq_len=64
    )
    parts = _PARTS[family] | {
        "transformer": FAMILIES[family].build(dtype),
        "vae": autoencoder(family).to(dtype),
        "scheduler": scheduler,
    }
    made = _PIPELINES[family](**parts)
    made.set_progress_bar_config(disable=True)
    return made


def autoencoder(family: str) -> Any:
    """Build the family's kind of autoencoder, of four latent channels."""
    torch.manual_seed(1)
    if family == "qwen":
        statistics = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [1.5, 0.8, 1.2, 1.0]}
        return AutoencoderKLQwenImage(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **statistics
        ).eval()
    blocks: dict[str, Any] = {
        "block_out_channels": (4, 4, 4, 4),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "norm_num_groups": 2,
        "latent_channels": 4,
    }
    if family == "flux2":
        vae = AutoencoderKLFlux2(**blocks).eval()
        vae.bn.running_mean.normal_()
        vae.bn.running_var.uniform_(0.5, 2)
        return vae
    plain: dict[str, Any] = {"use_quant_conv": False, "use_post_quant_conv": False}
    return AutoencoderKL(**blocks, **plain, shift_factor=0.1).eval()


def prompt(family: str, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Return a prompt as embeddings."""
    draw = torch.Generator().manual_seed(2)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw).to(dtype)

    if family == "z-image":
        return {"prompt_embeds": [random(TEXT, 8)], "guidance_scale": 0.0}
    if family == "chroma":
        mask = torch.ones(1, TEXT, dtype=torch.bool)
        return {
            "prompt_embeds": random(1, TEXT, 8),
            "prompt_attention_mask": mask,
            "guidance_scale": 0.0,
        }
    if family == "qwen":
        mask = torch.ones(1, TEXT, dtype=torch.long)
        return {"prompt_embeds": random(1, TEXT, 8), "prompt_embeds_mask": mask}
    if family == "flux2":
        return {"prompt_embeds": random(1, TEXT, 8)}
    embeds = {"prompt_embeds": random(1, TEXT, 8), "pooled_prompt_embeds": random(1, 8)}
    if family == "sd3":
        negative = {f"negative_{name}": random(*each.shape) for name, each in embeds.items()}
        return embeds | negative | {"guidance_scale": 3.0}
    return embeds


_PIPELINES: dict[str, Any] = {
    "flux": FluxPipeline,
    "chroma": ChromaPipeline,
    "z-image": ZImagePipeline,
    "flux2": Flux2Pipeline,
    "qwen": QwenImagePipeline,
    "sd3": StableDiffusion3Pipeline,
}

_ONE = ("text_encoder", "tokenizer")
_TWO = (*_ONE, "text_encoder_2", "tokenizer_2")
_PARTS: dict[str, dict[str, None]] = {
    "flux": dict.fromkeys(_TWO),
    "chroma": dict.fromkeys(_ONE),
    "z-image": dict.fromkeys(_ONE),
    "flux2": dict.fromkeys(_ONE),
    "qwen": dict.fromkeys(_ONE),
    "sd3": dict.fromkeys((*_TWO, "text_encoder_3", "tokenizer_3")),
}
