"""Pipelines of SDXL's shape with random weights: a timing does not depend on what they know."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionXLPipeline,
)
from torch import Tensor

from benchmarks.gpu.bench import Bench
from benchmarks.network import flops, models
from hidiffusion.methods import registry

#: stabilityai/stable-diffusion-xl-base-1.0, vae/config.json; half the channels tell nothing else.
_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.13025,
    "sample_size": 1024,
}


class Alone(DiffusionPipeline):
    """A U-Net and its scheduler, which is all that HiDiffusion needs."""

    def __init__(self, unet: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @classmethod
    def of(cls, unet: Any) -> Any:
        """Return a U-Net with a scheduler at the start of a run of 50 steps."""
        pipe = cls(unet, DDIMScheduler())
        pipe.scheduler.set_timesteps(flops.STEPS)
        return pipe


#: Native side of a miniature, in latents: small, so that its pictures are quick to draw.
TINY_NATIVE = 8


def unet(bench: Bench, family: str, width: float = 1.0) -> Any:
    """Return a family's U-Net with seeded random weights, or a miniature of its structure."""
    torch.manual_seed(0)
    tiny = {"sample_size": TINY_NATIVE}
    if family == "sdxl":
        tiny["transformer_layers_per_block"] = (1, 1, 1)
    with torch.device(bench.device):
        built = models.build(family, 0.1, **tiny) if bench.tiny else models.build(family, width)
    for parameter in built.parameters():
        parameter.data = parameter.data.to(bench.dtype)
    return built


def side_of(bench: Bench, side: int) -> int:
    """Return a side in pixels, or that of the miniature, as many times its native side."""
    return side * TINY_NATIVE // 128 if bench.tiny else side


def autoencoder(bench: Bench, channels: tuple[int, ...] = (128, 256, 512, 512)) -> Any:
    """Return SDXL's autoencoder, or one of its shape, with random weights."""
    channels = (32, 32, 32, 32) if bench.tiny else channels
    # Its size is that of a tile of diffusers' own tiling.
    shape = {**_VAE, "sample_size": 128} if bench.tiny else _VAE
    with torch.device(bench.device):
        coder = AutoencoderKL(block_out_channels=channels, force_upcast=False, **shape)
    return coder.to(bench.dtype).eval()


def sdxl(bench: Bench, width: float = 1.0) -> Any:
    """Return a pipeline without text encoders; prompts come as embeddings."""
    pipe = StableDiffusionXLPipeline(
        vae=autoencoder(bench, (32, 64, 128, 128) if width < 1 else (128, 256, 512, 512)),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet(bench, "sdxl", width),
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False
        ),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(
    pipe: Any,
    method: str,
    side: int,
    steps: int,
    *,
    seed: int = 0,
    output_type: str = "latent",
    **options: Any,
) -> Tensor:
    """Draw one picture with guidance by a method of the registry; return latents or pixels."""
    generator = torch.Generator("cpu").manual_seed(0)
    where = {"device": pipe.unet.device, "dtype": pipe.unet.dtype}
    pooled = pipe.unet.config.projection_class_embeddings_input_dim - 6 * 256
    words = torch.randn(2, 1, 77, pipe.unet.config.cross_attention_dim, generator=generator)
    whole = torch.randn(2, 1, pooled, generator=generator)
    result: Tensor = (
        registry.get(method)
        .generate(
            pipe,
            width=side,
            height=side,
            seed=seed,
            num_inference_steps=steps,
            guidance_scale=5.0,
            prompt_embeds=words[0].to(**where),
            negative_prompt_embeds=words[1].to(**where),
            pooled_prompt_embeds=whole[0].to(**where),
            negative_pooled_prompt_embeds=whole[1].to(**where),
            output_type=output_type,
            **options,
        )
        .images
    )
    return result
