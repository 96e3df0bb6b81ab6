"""A small DiMR and an autoencoder for it, with random weights."""

import torch
from diffusers import AutoencoderKL

from hidiffusion.dimr import DiMRTransformer

STAGES = (
    {
        "block_type": "TransformerBlock",
        "dim": 16,
        "hidden_dim": 32,
        "num_attention_heads": 2,
        "num_blocks": 3,
        "max_height": 4,
        "max_width": 4,
        "input_feature_ratio": 2,
    },
    {
        "block_type": "ConvNeXtBlock",
        "dim": 8,
        "hidden_dim": 16,
        "num_blocks": 3,
        "max_height": 8,
        "max_width": 8,
    },
)


def tiny_vae() -> AutoencoderKL:
    """Return an autoencoder of factor 2 with four latent channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        norm_num_groups=2,
        latent_channels=4,
    )


def tiny_dimr(seed: int = 0, num_classes: int = 4) -> DiMRTransformer:
    """Return a network of two stages whose time-dependent parameters have left their start."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = DiMRTransformer(STAGES, num_classes=num_classes).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model
