"""Tiny random-weight models with the structure of the real ones, for every test that runs a U-Net.

Channels are few, levels and blocks are the published ones, and the native size is a parameter:
``native=8`` latents keep a picture of four times native cheap. Same seed, same weights.
"""

from __future__ import annotations

import inspect
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

#: Channels of the prompt embeddings of every tiny model.
PROMPT_CHANNELS = 16

SD15: dict[str, Any] = {
    "block_out_channels": (8, 8, 16, 16),
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": PROMPT_CHANNELS,
    "attention_head_dim": 2,
}
SD21: dict[str, Any] = SD15 | {
    "use_linear_projection": True,
    "attention_head_dim": (2, 2, 4, 4),
}
SDXL: dict[str, Any] = {
    "block_out_channels": (8, 8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 1),
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 2 * PROMPT_CHANNELS,
    "attention_head_dim": (2, 2, 4),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + PROMPT_CHANNELS,
}
SDXL_REFINER: dict[str, Any] = SDXL | {
    "block_out_channels": (8, 8, 16, 16),
    "down_block_types": (
        "DownBlock2D",
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "DownBlock2D",
    ),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": 1,
    "cross_attention_dim": PROMPT_CHANNELS,
    "attention_head_dim": (2, 2, 4, 4),
    "projection_class_embeddings_input_dim": 5 * 8 + PROMPT_CHANNELS,
}


def unet(
    config: dict[str, Any] = SD15, *, native: int = 8, seed: int = 0, **changes: Any
) -> UNet2DConditionModel:
    """Build a tiny U-Net whose native size is ``native`` latents a side."""
    with seeded(seed):
        return UNet2DConditionModel(sample_size=native, **(config | changes)).eval()


def controlnet(model: UNet2DConditionModel, *, seed: int = 1) -> ControlNetModel:
    """Build a tiny ControlNet for a U-Net; its zero convolutions are filled, to have an effect."""
    with seeded(seed):
        control = ControlNetModel.from_unet(model, conditioning_embedding_out_channels=(4, 4, 4, 4))
        for convolution in [*control.controlnet_down_blocks, control.controlnet_mid_block]:
            torch.nn.init.normal_(convolution.weight, std=0.5)
        return control.eval()


def unet_inputs(
    model: UNet2DConditionModel, height: int, width: int, *, batch: int = 1, seed: int = 0
) -> dict[str, Any]:
    """Return everything the forward of ``model`` needs but the timestep; latents in numbers."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    config = model.config
    inputs: dict[str, Any] = {
        "sample": normal(batch, config.in_channels, height, width),
        "encoder_hidden_states": normal(batch, 5, config.cross_attention_dim),
    }
    if config.addition_embed_type == "text_time":
        ids = (config.projection_class_embeddings_input_dim - PROMPT_CHANNELS) // 8
        inputs["added_cond_kwargs"] = {
            "text_embeds": normal(batch, PROMPT_CHANNELS),
            "time_ids": torch.full((batch, ids), 8.0 * height),
        }
    return inputs


def vae(*, seed: int = 2) -> AutoencoderKL:
    """Build a tiny autoencoder with factor 8."""
    with seeded(seed):
        return AutoencoderKL(
            block_out_channels=(4, 4, 4, 4),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=2,
            layers_per_block=1,
        ).eval()


def text_encoder(*, projection: bool = False, seed: int = 3) -> CLIPTextModel:
    """Build a tiny CLIP text encoder, with its projection for SDXL's second one."""
    config = CLIPTextConfig(
        vocab_size=len(_VOCABULARY),
        hidden_size=PROMPT_CHANNELS,
        intermediate_size=2 * PROMPT_CHANNELS,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=PROMPT_CHANNELS,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=1,
    )
    with seeded(seed):
        return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def tokenizer() -> CLIPTokenizer:
    """Build a tokenizer of single letters."""
    if "vocab_file" not in inspect.signature(CLIPTokenizer).parameters:
        return CLIPTokenizer(vocab=_VOCABULARY, merges=[], model_max_length=77)
    with tempfile.TemporaryDirectory() as folder:  # transformers 4 reads files
        vocabulary, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps(_VOCABULARY))
        merges.write_text("#version: 0.2\n")
        return CLIPTokenizer(str(vocabulary), str(merges), model_max_length=77)


def scheduler() -> DDIMScheduler:
    """Build the scheduler of the tiny pipelines: deterministic, one U-Net call a step."""
    return DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)


def sd_components(model: UNet2DConditionModel | None = None) -> dict[str, Any]:
    """Return the components that every Stable Diffusion pipeline is built from."""
    return {
        "unet": model or unet(SD15),
        "scheduler": scheduler(),
        "vae": vae(),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(),
        "safety_checker": None,
        "feature_extractor": None,
    }


def sdxl_components(model: UNet2DConditionModel | None = None) -> dict[str, Any]:
    """Return the components that every SDXL pipeline is built from."""
    return {
        "unet": model or unet(SDXL),
        "scheduler": scheduler(),
        "vae": vae(),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(),
        "text_encoder_2": text_encoder(projection=True, seed=4),
        "tokenizer_2": tokenizer(),
    }


def sd_pipeline(model: UNet2DConditionModel | None = None) -> StableDiffusionPipeline:
    """Build a tiny Stable Diffusion pipeline that prints nothing."""
    pipe = StableDiffusionPipeline(**sd_components(model), requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sdxl_pipeline(model: UNet2DConditionModel | None = None) -> StableDiffusionXLPipeline:
    """Build a tiny SDXL pipeline that prints nothing."""
    pipe = StableDiffusionXLPipeline(**sdxl_components(model))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generate(pipe: Any, height: int, width: int, *, seed: int = 0, **call: Any) -> torch.Tensor:
    """Run a pipeline on a short prompt; return latents ``[batch, 4, height, width]``."""
    arguments: dict[str, Any] = {
        "prompt": "abc",
        "num_inference_steps": 5,
        "generator": torch.Generator().manual_seed(seed),
        "output_type": "latent",
    }
    return pipe(height=8 * height, width=8 * width, **(arguments | call)).images


class seeded:  # noqa: N801 - reads as a verb: with seeded(0)
    """Seed the global generator inside, and leave it as it was."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.state = torch.get_rng_state()
        torch.manual_seed(self.seed)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self.state)


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_VOCABULARY = {
    token: index
    for index, token in enumerate(
        ["<|startoftext|>", "<|endoftext|>", *_LETTERS, *(f"{letter}</w>" for letter in _LETTERS)]
    )
}
