"""The U-Nets that the claims are about, from their published configurations.

Weights do not matter to a count of operations nor to a timing, so none are loaded.
"""

from typing import Any

import torch
from diffusers import UNet2DConditionModel

#: runwayml/stable-diffusion-v1-5, unet/config.json.
_SD15: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}

#: The configurations of each family's U-Net, fields at their defaults left out.
CONFIGS: dict[str, dict[str, Any]] = {
    "sd15": _SD15,
    # stabilityai/stable-diffusion-2-1, unet/config.json.
    "sd21": {
        **_SD15,
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
        "upcast_attention": True,
    },
    # stabilityai/stable-diffusion-xl-base-1.0, unet/config.json.
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "layers_per_block": 2,
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


def build(family: str, width: float = 1.0, **overrides: Any) -> UNet2DConditionModel:
    """Build a family's U-Net on the current default device, with PyTorch's random weights.

    Args:
        family: A key of ``CONFIGS``.
        width: Factor on the channels of every level, for machines that are too small for the real
            model. 0.2 gives levels of 64, 128 and 256 channels; the norms' 32 groups divide them.
        **overrides: Other values of the configuration, for miniatures.
    """
    config = CONFIGS[family] | overrides
    config["block_out_channels"] = tuple(
        round(channels * width) for channels in config["block_out_channels"]
    )
    heads = config["attention_head_dim"]
    if isinstance(heads, tuple):
        config["attention_head_dim"] = tuple(max(1, round(count * width)) for count in heads)
    return UNet2DConditionModel(**config).eval()


def arguments(
    model: UNet2DConditionModel, height: int, width: int, batch: int = 1
) -> dict[str, Any]:
    """Return the tensors one call needs, on the model's device and in its dtype.

    Args:
        model: A U-Net made by ``build``.
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        batch: Number of latents; 2 is one picture with classifier-free guidance.
    """
    config = model.config
    options: dict[str, Any] = {"device": model.device, "dtype": model.dtype}
    tensors: dict[str, Any] = {
        "sample": torch.randn(batch, config.in_channels, height // 8, width // 8, **options),
        "encoder_hidden_states": torch.randn(batch, 77, config.cross_attention_dim, **options),
    }
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        tensors["added_cond_kwargs"] = {
            "text_embeds": torch.randn(batch, pooled, **options),
            "time_ids": torch.zeros(batch, 6, **options),
        }
    return tensors
