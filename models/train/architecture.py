"""Untrained networks of the bundled model, in Stable Diffusion 1.5's shape."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.train.config import TrainConfig, UNetConfig

MAX_TOKENS = 77


def build_vae(config: TrainConfig) -> Any:
    """Returns an untrained autoencoder of factor 8 with four latent channels.

    It has no attention, so the cost of a decode grows with the picture's area and no faster.
    """
    build: Any = AutoencoderKL
    return build(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=config.vae.channels,
        layers_per_block=config.vae.layers,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=config.size,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def build_unet(config: TrainConfig) -> Any:
    """Returns an untrained U-Net with Stable Diffusion 1.5's block types."""
    build: Any = UNet2DConditionModel
    return build(
        sample_size=config.size // 8,
        block_out_channels=config.unet.channels,
        layers_per_block=2,
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        cross_attention_dim=config.unet.text_width,
        attention_head_dim=config.unet.heads,
        norm_num_groups=8,
    )


def build_text_encoder(config: UNetConfig, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Returns an untrained CLIP text encoder for the tokenizer's vocabulary."""
    return CLIPTextModel(
        text_config(
            tokenizer,
            width=config.text_width,
            layers=config.text_layers,
            heads=config.text_heads,
        )
    )


def text_config(tokenizer: CLIPTokenizer, *, width: int, layers: int, heads: int) -> CLIPTextConfig:
    """Returns the shape of a CLIP text encoder for the tokenizer's vocabulary."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def build_scheduler() -> Any:
    """Returns the noise schedule of Stable Diffusion with velocity prediction.

    Velocity prediction (Salimans and Ho, arXiv 2202.00512) keeps the white ground stable; trailing
    spacing starts sampling at the noisiest timestep (Lin et al., arXiv 2305.08891).
    """
    build: Any = DDIMScheduler
    return build(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
