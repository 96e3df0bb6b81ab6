"""What is compared: models, inputs, shifts and sizes, the same on both sides.

Imported by make_golden.py in the authors' environment (diffusers 0.35.2) and by the parity tests
in ours, so it may use only what both releases of diffusers share. Nothing here depends on the
order in which a model creates its parameters, nor on a global random generator.
"""

import zlib
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)

#: How many numbers of an output are kept. A larger output is sampled at seeded positions.
KEPT = 8_192


@dataclass(frozen=True)
class Family:
    """One model family with its real depth and native size, but very few channels."""

    name: str
    name_or_path: str
    config: dict = field(hash=False)
    num_steps: int
    prediction_type: str = "epsilon"


@dataclass(frozen=True)
class Case:
    """One U-Net, one latent size, and the steps whose outputs are kept.

    Unless ``softmax`` is set, both sides use linear self-attention: it has the symmetries of
    softmax attention without its quadratic time, which these latent sizes would need on a CPU.
    """

    family: str
    height: int
    width: int
    steps: tuple[int, ...]
    windows: bool = True
    raunet: bool = True
    batch: int = 1
    softmax: bool = False

    @property
    def name(self) -> str:
        parts = [self.family, f"{self.height}x{self.width}"]
        parts += [] if self.windows else ["raunet"]
        parts += [] if self.raunet else ["windows"]
        return "-".join(parts)


_SD = {
    "sample_size": 64,
    "block_out_channels": (8, 8, 16, 16),
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 8,
    "attention_head_dim": (1, 1, 2, 2),
}
_SDXL = {
    "sample_size": 128,
    "block_out_channels": (8, 8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 1),
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 8,
    "attention_head_dim": (1, 1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 8,
}

FAMILIES = {
    family.name: family
    for family in (
        Family("sd15", "runwayml/stable-diffusion-v1-5", _SD, 10),
        Family(
            "sd21",
            "stabilityai/stable-diffusion-2-1-base",
            {**_SD, "use_linear_projection": True, "attention_head_dim": (1, 2, 2, 4)},
            10,
            "v_prediction",
        ),
        Family("sdxl", "stabilityai/stable-diffusion-xl-base-1.0", _SDXL, 10),
        Family("turbo", "stabilityai/sdxl-turbo", {**_SDXL, "sample_size": 64}, 4),
        # The authors know Playground only by the full list of SDXL's module names, its shortcuts
        # (so no two levels of one width) and its ten deep transformer blocks included.
        Family(
            "playground",
            "playgroundai/playground-v2-1024px-aesthetic",
            {
                **_SDXL,
                "block_out_channels": (8, 12, 16),
                "transformer_layers_per_block": (1, 2, 10),
            },
            10,
        ),
        Family(
            "inpainting",
            "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
            {**_SDXL, "in_channels": 9},
            10,
        ),
        Family("controlnet", "stabilityai/stable-diffusion-xl-base-1.0", _SDXL, 10),
    )
}

#: The steps on both sides of every switch of the schedule, from the tables of the paper's code:
#: twice native 0.4 N, SDXL's aggressive stage int(8/50 N), four times native 0.3 N and 0.7 N.
_SD_TWICE, _SDXL_TWICE, _FOUR_TIMES, _TURBO = (3, 4), (0, 1, 3, 4), (2, 3, 6, 7), (1, 2)

CASES = (
    Case("sd15", 128, 128, _SD_TWICE, softmax=True),
    Case("sd15", 96, 176, _SD_TWICE, batch=2),
    Case("sd15", 128, 128, _SD_TWICE, raunet=False),
    Case("sd15", 256, 256, _FOUR_TIMES),
    Case("sd15", 256, 384, _FOUR_TIMES),
    Case("sd15", 107, 129, _SD_TWICE),
    Case("sd15", 107, 129, _SD_TWICE, windows=False),
    Case("sd21", 128, 128, _SD_TWICE),
    Case("sd21", 176, 96, _SD_TWICE, softmax=True),
    Case("sd21", 256, 256, _FOUR_TIMES),
    Case("sd21", 129, 107, _SD_TWICE, windows=False),
    Case("sdxl", 256, 256, _SDXL_TWICE, softmax=True),
    Case("sdxl", 192, 336, _SDXL_TWICE),
    Case("sdxl", 256, 512, _SDXL_TWICE),
    Case("sdxl", 512, 512, _FOUR_TIMES),
    Case("sdxl", 218, 259, _SDXL_TWICE),
    Case("sdxl", 218, 259, _SDXL_TWICE, windows=False),
    Case("turbo", 128, 128, _TURBO),
    Case("turbo", 96, 176, _TURBO),
    Case("turbo", 256, 256, _TURBO),
    Case("turbo", 107, 129, _TURBO, windows=False),
    Case("playground", 256, 256, (3, 4)),
    Case("playground", 192, 336, (3, 4)),
    Case("playground", 512, 512, (2, 3, 7)),
    Case("playground", 218, 259, (3, 4), windows=False),
    Case("inpainting", 256, 256, (3, 4)),
    Case("inpainting", 192, 336, (3, 4)),
    Case("inpainting", 512, 512, (2, 3, 7)),
    Case("inpainting", 218, 259, (3, 4), windows=False),
)

#: Whole pipeline runs with guidance: each step works on what the steps before it made.
RUNS = (
    Case("sd15", 96, 136, (0, 3, 4, 9)),
    Case("sd21", 96, 136, (0, 3, 4, 9)),
    Case("controlnet", 256, 256, (0, 1, 4, 5, 6)),
    Case("controlnet", 192, 336, (0, 1, 4, 5, 6)),
)


def normal(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return standard normal numbers that depend on ``name`` and ``shape`` alone."""
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy(generator.standard_normal(shape).astype(np.float32))


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


def unet(family: Family) -> UNet2DConditionModel:
    """Build the U-Net of a family with its reproducible weights."""
    model = UNet2DConditionModel(**family.config)
    fill(model)
    return model.eval()


def scheduler(family: Family) -> DDIMScheduler:
    """Build the scheduler whose table gives each step its timestep."""
    return DDIMScheduler(prediction_type=family.prediction_type)


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
            "time_ids": torch.tensor([[8.0 * case.height, 8.0 * case.width] * 3] * case.batch),
        }
    return arguments


def prompt_embeds(batch: int) -> torch.Tensor:
    """Return text embeddings [batch, 5, 8]."""
    return normal("prompt", (batch, 5, 8))


def pooled_embeds(batch: int) -> torch.Tensor:
    """Return pooled text embeddings [batch, 8]."""
    return normal("pooled", (batch, 8))


def shift(step: int, block: int) -> int:
    """Return the window shift, 0 to 3, of the ``block``-th windowed attention of a call."""
    return (step + 3 * block + block // 4) % 4


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
        "guidance_scale": 5.0,
        "output_type": "latent",
    }
    if case.family == "controlnet":
        models |= {"text_encoder_2": None, "tokenizer_2": None, "controlnet": controlnet(family)}
        pipe = StableDiffusionXLControlNetPipeline(**models, add_watermarker=False)
        arguments |= {
            "pooled_prompt_embeds": pooled_embeds(1),
            "negative_pooled_prompt_embeds": normal("negative pooled", (1, 8)),
            "controlnet_conditioning_scale": 0.8,
        }
    else:
        models |= {"safety_checker": None, "requires_safety_checker": False}
        pipe = StableDiffusionPipeline(**models)
    pipe.register_to_config(_name_or_path=family.name_or_path)
    pipe.set_progress_bar_config(disable=True)
    use_linear_attention(pipe.unet)
    return pipe, arguments


def control_image(case: Case) -> torch.Tensor:
    """Return a smooth control image [1, 3, 8 * height, 8 * width] in 0 to 1."""
    rows = torch.linspace(0, 9, 8 * case.height).view(1, 1, -1, 1)
    columns = torch.linspace(0, 7, 8 * case.width).view(1, 1, 1, -1)
    phases = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1)
    return 0.5 + 0.5 * torch.sin(rows + phases) * torch.cos(columns - phases)


def controlnet(family: Family) -> ControlNetModel:
    """Build the ControlNet that goes with a U-Net, its zero convolutions filled as well."""
    config = {name: value for name, value in family.config.items() if not name.startswith("up_")}
    config = {name: value for name, value in config.items() if name != "sample_size"}
    model = ControlNetModel(**config, conditioning_embedding_out_channels=(4, 4, 8, 8))
    fill(model)
    use_linear_attention(model)
    return model.eval()


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
    flat = output.detach().float().flatten()
    if flat.numel() <= KEPT:
        return flat.clone()
    positions = np.random.RandomState(flat.numel() % 2**32).permutation(flat.numel())[:KEPT]
    return flat[torch.from_numpy(np.sort(positions))].clone()
