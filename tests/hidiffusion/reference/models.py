"""The models and inputs of the cases, the same on both sides.

Imported by make_golden.py in the authors' environment (diffusers 0.35.2) and by the parity tests
in ours, so it may use only what both releases of diffusers share. Nothing here depends on the
order in which a model creates its parameters, nor on a global random generator, and everything is
float64: whole runs amplify rounding, and that of float32 differs from processor to processor.
"""

import math
import zlib

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)

from .cases import FAMILIES, STRENGTH, Case, Family

#: How many numbers of an output are kept. A larger output is sampled at seeded positions.
KEPT = 4_096

DTYPE = torch.float64


def normal(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return standard normal numbers that depend on ``name`` and ``shape`` alone."""
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy(generator.standard_normal(shape)).to(DTYPE)


@torch.no_grad()
def fill(model: torch.nn.Module) -> None:
    """Give every parameter a value that depends on its name and shape alone."""
    for name, parameter in model.named_parameters():
        value = normal(name, tuple(parameter.shape))
        if parameter.ndim > 1:
            value = value / (parameter[0].numel() ** 0.5)
        elif name.endswith("weight"):
            value = 1 + 0.1 * value
        else:
            value = 0.1 * value
        parameter.copy_(value)


class Timesteps(torch.nn.Module):
    """diffusers' sinusoidal embedding of numbers [N] as [N, C]; theirs computes in float32."""

    def __init__(self, theirs: torch.nn.Module) -> None:
        super().__init__()
        self.half, self.flip = theirs.num_channels // 2, theirs.flip_sin_to_cos
        self.shift = theirs.downscale_freq_shift

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        exponents = torch.arange(self.half, dtype=DTYPE) / (self.half - self.shift)
        angles = numbers[:, None].to(DTYPE) * torch.exp(-math.log(10_000) * exponents)
        parts = (angles.cos(), angles.sin()) if self.flip else (angles.sin(), angles.cos())
        return torch.cat(parts, dim=-1)


def prepare(model: torch.nn.Module) -> torch.nn.Module:
    """Give a model our precision throughout and its reproducible weights."""
    model.to(DTYPE)
    for name in ("time_proj", "add_time_proj"):
        if hasattr(model, name):
            setattr(model, name, Timesteps(getattr(model, name)))
    fill(model)
    return model.eval()


def unet(family: Family) -> UNet2DConditionModel:
    """Build the U-Net of a family with its reproducible weights."""
    return prepare(UNet2DConditionModel(**family.config))


def scheduler(family: Family) -> DDIMScheduler:
    """Build the scheduler whose table gives each step its timestep, its products in float64."""
    made = DDIMScheduler(prediction_type=family.prediction_type)
    betas = np.linspace(
        made.config.beta_start, made.config.beta_end, made.config.num_train_timesteps
    )
    made.alphas_cumprod = torch.from_numpy(np.cumprod(1 - betas)).to(DTYPE)
    made.final_alpha_cumprod = torch.ones((), dtype=DTYPE)
    return made


class UNetPipeline(DiffusionPipeline):
    """A U-Net and its scheduler: as little pipeline as the method needs."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)


def pipeline(case: Case) -> UNetPipeline:
    """Build the pipeline of a case, its scheduler set to the family's number of steps."""
    family = FAMILIES[case.family]
    pipe = UNetPipeline(unet(family), scheduler(family))
    pipe.register_to_config(_name_or_path=family.name_or_path)
    if not case.softmax:
        use_linear_attention(pipe.unet)
    pipe.scheduler.set_timesteps(family.num_steps)
    pipe._num_timesteps = family.num_steps
    return pipe


def inputs(case: Case, step: int) -> dict:
    """Return the U-Net's tensor arguments at one step: fresh noise, not an earlier output."""
    config = FAMILIES[case.family].config
    shape = (case.batch, config.get("in_channels", 4), case.height, case.width)
    arguments = {
        "sample": normal(f"sample {step}", shape),
        "encoder_hidden_states": prompt_embeds(case.batch),
    }
    if "addition_embed_type" in config:
        arguments["added_cond_kwargs"] = {
            "text_embeds": pooled_embeds(case.batch),
            "time_ids": torch.tensor(
                [[8.0 * case.height, 8.0 * case.width] * 3] * case.batch, dtype=DTYPE
            ),
        }
    return arguments


def prompt_embeds(batch: int) -> torch.Tensor:
    """Return text embeddings [batch, 5, 8]."""
    return normal("prompt", (batch, 5, 8))


def pooled_embeds(batch: int) -> torch.Tensor:
    """Return pooled text embeddings [batch, 8]."""
    return normal("pooled", (batch, 8))


def run(case: Case) -> tuple[DiffusionPipeline, dict]:
    """Build the whole pipeline of a run and the arguments to call it with."""
    family = FAMILIES[case.family]
    models = {"unet": unet(family), "scheduler": scheduler(family), "vae": None}
    models |= {"text_encoder": None, "tokenizer": None, "feature_extractor": None}
    arguments = {
        "prompt_embeds": prompt_embeds(1),
        "negative_prompt_embeds": normal("negative prompt", (1, 5, 8)),
        "latents": normal("latents", (1, 4, case.height, case.width)),
        "height": 8 * case.height,
        "width": 8 * case.width,
        "num_inference_steps": family.num_steps,
        "guidance_scale": 5.0 if case.guided else 1.0,
        "output_type": "latent",
    }
    if case.family == "controlnet":
        pipe = _controlled(case, models, arguments)
    else:
        models |= {"safety_checker": None, "requires_safety_checker": False}
        pipe = StableDiffusionPipeline(**models)
    pipe.register_to_config(_name_or_path=family.name_or_path)
    pipe.set_progress_bar_config(disable=True)
    if not case.softmax:
        use_linear_attention(pipe.unet)
    return pipe, arguments


def _controlled(case: Case, models: dict, arguments: dict) -> DiffusionPipeline:
    """Build the ControlNet pipeline of a run, and add to its arguments."""
    models |= {"text_encoder_2": None, "tokenizer_2": None}
    models |= {"controlnet": controlnet(FAMILIES[case.family])}
    arguments |= {
        "pooled_prompt_embeds": pooled_embeds(1),
        "negative_pooled_prompt_embeds": normal("negative pooled", (1, 8)),
        "controlnet_conditioning_scale": 0.8,
    }
    if not case.image:
        arguments["image"] = control_image(case)
        return StableDiffusionXLControlNetPipeline(**models, add_watermarker=False)
    arguments |= {"image": arguments.pop("latents"), "control_image": control_image(case)}
    arguments |= {"strength": STRENGTH, "generator": torch.Generator().manual_seed(0)}
    # The initial image comes as latents, so of the autoencoder only the configuration is read.
    models["vae"] = AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    )
    return StableDiffusionXLControlNetImg2ImgPipeline(**models, add_watermarker=False)


def control_image(case: Case) -> torch.Tensor:
    """Return a smooth control image [1, 3, 8 * height, 8 * width] in 0 to 1."""
    rows = torch.linspace(0, 9, 8 * case.height, dtype=DTYPE).view(1, 1, -1, 1)
    columns = torch.linspace(0, 7, 8 * case.width, dtype=DTYPE).view(1, 1, 1, -1)
    phases = torch.tensor([0.0, 1.0, 2.0], dtype=DTYPE).view(1, 3, 1, 1)
    return 0.5 + 0.5 * torch.sin(rows + phases) * torch.cos(columns - phases)


def controlnet(family: Family) -> ControlNetModel:
    """Build the ControlNet that goes with a U-Net, its zero convolutions filled as well."""
    config = {name: value for name, value in family.config.items() if not name.startswith("up_")}
    config = {name: value for name, value in config.items() if name != "sample_size"}
    model = ControlNetModel(**config, conditioning_embedding_out_channels=(4, 4, 8, 8))
    prepare(model)
    use_linear_attention(model)
    return model


class LinearAttention:
    """Attention processor: ``phi(q) (phi(k)^T v) / (phi(q) sum phi(k))``, ``phi = elu + 1``.

    Tokens are [B, N, C]. Like softmax attention it ignores the order of the tokens and sees only
    those of its own window, so a wrong window shows; unlike it, the cost is linear in N.
    """

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        del attention_mask, temb
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = torch.nn.functional.elu(attn.to_q(hidden_states)) + 1
        key = torch.nn.functional.elu(attn.to_k(context)) + 1
        values = key.transpose(1, 2) @ attn.to_v(context)
        total = query @ key.sum(dim=1).unsqueeze(-1)
        return attn.to_out[0](query @ values / total)


def use_linear_attention(model: torch.nn.Module) -> None:
    """Replace the self-attention of a model by linear attention; cross-attention stays."""
    processors = dict(model.attn_processors)
    processors.update({name: LinearAttention() for name in processors if ".attn1." in name})
    model.set_attn_processor(processors)


def keep(output: torch.Tensor) -> torch.Tensor:
    """Return what is stored of an output: all of it, or KEPT numbers at seeded positions."""
    flat = output.detach().flatten()
    if flat.numel() <= KEPT:
        return flat.clone()
    positions = np.random.RandomState(flat.numel() % 2**32).permutation(flat.numel())[:KEPT]
    return flat[torch.from_numpy(np.sort(positions))].clone()
