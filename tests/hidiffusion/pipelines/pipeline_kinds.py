"""Every kind of pipeline that carries a supported U-Net, as one table of cells.

A cell builds a tiny pipeline, calls it above its native size, and says which side the mid-block's
map must have in each U-Net call. `docs/pipelines.md` shows the same table to readers.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import diffusers
import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    DiffusionPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)

from tests.hidiffusion.tiny import models as tiny_models
from tests.hidiffusion.tiny.models import SD15, SD21, SDXL

#: Latents a side: the tiny models' native size, and twice that, at which every cell runs.
NATIVE = 8
LATENTS = 2 * NATIVE
PIXELS = 8 * LATENTS
STEPS = 5
CONFIGS = {"SD 1.5": SD15, "SD 2.1": SD21, "SDXL": SDXL}


@dataclass(frozen=True)
class Cell:
    """One kind of pipeline for one family.

    Attributes:
        kind: Its row in the table.
        family: Its column.
        pipeline: Name of the diffusers class.
        arguments: What the call is given beyond prompt, size and steps.
        parts: Makes the models that differ from the family's own.
        load: Loads what belongs on top of the models (LoRA, IP-Adapter, ...).
        options: Fields of HiDiffusionConfig.
        sides: The mid-block's side in each call of the U-Net, if not those of a plain run.
    """

    kind: str
    family: str
    pipeline: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    parts: Callable[["Cell"], dict[str, Any]] = field(default=lambda _cell: {})
    load: Callable[[DiffusionPipeline], None] = field(default=lambda _pipe: None)
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    sides: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}, {self.family}"

    def expected_sides(self) -> tuple[int, ...]:
        """Return ``sides``, or those of a plain run: two steps at half the side, then three."""
        if self.sides:
            return self.sides
        full = LATENTS // (4 if self.family == "SDXL" else 8)
        return (full // 2,) * 2 + (full,) * 3

    def build(self) -> DiffusionPipeline:
        """Build the pipeline with its tiny models."""
        return build(self.pipeline, self.family, **self.parts(self))

    def call(self, pipe: DiffusionPipeline) -> torch.Tensor:
        """Run the pipeline; return its latents."""
        arguments = {
            "prompt": "abc",
            "height": PIXELS,
            "width": PIXELS,
            "num_inference_steps": STEPS,
            "generator": torch.Generator().manual_seed(0),
            "output_type": "latent",
            **self.arguments,
        }
        accepted = inspect.signature(pipe.__call__).parameters
        return pipe(**{name: arguments[name] for name in arguments if name in accepted}).images


class Sides:
    """Records the mid-block's side in every U-Net call inside a `with` block."""

    def __init__(self, model: UNet2DConditionModel) -> None:
        self.model = model
        self.seen: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        self._handle = self.model.mid_block.register_forward_pre_hook(self._record)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _record(self, _module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        self.seen += (arguments[0].shape[-1],)


def build(pipeline: str, family: str, **parts: Any) -> DiffusionPipeline:
    """Build a diffusers pipeline from the family's tiny models, some replaced or added."""
    cls = getattr(diffusers, pipeline)
    accepted = inspect.signature(cls.__init__).parameters
    model = parts.pop("unet", None) or tiny_models.unet(CONFIGS[family], native=NATIVE)
    make = tiny_models.sdxl_components if family == "SDXL" else tiny_models.sd_components
    available = {**make(model), "requires_safety_checker": False, "image_encoder": None, **parts}
    if family == "SD 2.1":
        available["scheduler"].register_to_config(prediction_type="v_prediction")
    pipe = cls(**{name: value for name, value in available.items() if name in accepted})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(channels: int = 3, seed: int = 5, side: int = PIXELS) -> torch.Tensor:
    """Return a random picture [1, channels, side, side] with values from 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, channels, side, side, generator=generator)


def mask() -> torch.Tensor:
    """Return a mask [1, 1, side, side] that is 1, to be repainted, on the left half."""
    drawn = torch.zeros(1, 1, PIXELS, PIXELS)
    drawn[..., : PIXELS // 2] = 1
    return drawn


def control(cell: Cell, count: int = 1) -> dict[str, Any]:
    """Return the ControlNet parts of a cell: one network, or a list of ``count``."""
    model = tiny_models.unet(CONFIGS[cell.family], native=NATIVE)
    nets: list[ControlNetModel] = [
        tiny_models.controlnet(model, seed=seed) for seed in range(1, count + 1)
    ]
    return {"unet": model, "controlnet": nets if count > 1 else nets[0]}


def wide_unet(channels: int) -> Callable[[Cell], dict[str, Any]]:
    """Return parts whose U-Net takes ``channels`` input channels, as inpainting models do."""

    def parts(cell: Cell) -> dict[str, Any]:
        model = tiny_models.unet(CONFIGS[cell.family], native=NATIVE, in_channels=channels)
        return {"unet": model}

    return parts


def control_union(cell: Cell) -> dict[str, Any]:
    """Return a ControlNet Union and the U-Net that it goes with."""
    model = tiny_models.unet(CONFIGS[cell.family], native=NATIVE)
    with tiny_models.seeded(12):
        config = {
            name: value
            for name, value in CONFIGS[cell.family].items()
            if not name.startswith("up_")
        }
        union = ControlNetUnionModel(
            **config,
            conditioning_embedding_out_channels=(4, 4, 4, 8),
            num_trans_channel=8,
            num_trans_head=2,
            num_proj_channel=8,
        )
        for name, parameter in union.named_parameters():
            if name.startswith(("controlnet_down", "controlnet_mid")):
                torch.nn.init.normal_(parameter, std=0.3)
    return {"unet": model, "controlnet": union.eval()}


def adapter(cell: Cell) -> dict[str, Any]:
    """Return the T2I-Adapter part of a cell."""
    kind, factor = ("full_adapter_xl", 16) if cell.family == "SDXL" else ("full_adapter", 8)
    widths = list(CONFIGS[cell.family]["block_out_channels"])
    with tiny_models.seeded(6):
        model = T2IAdapter(
            in_channels=3,
            channels=[*widths, widths[-1]] if cell.family == "SDXL" else widths,
            num_res_blocks=1,
            downscale_factor=factor,
            adapter_type=kind,
        )
    return {"adapter": model.eval()}


def ip_adapter_weights(model: UNet2DConditionModel, tokens: int = 4) -> dict[str, Any]:
    """Return random IP-Adapter weights in the published file's layout."""
    width, embedding = model.config.cross_attention_dim, tiny_models.PROMPT_CHANNELS
    cross = [name for name in model.attn_processors if ".attn2." in name]
    weights: dict[str, torch.Tensor] = {}
    with tiny_models.seeded(7):
        for index, name in enumerate(cross):
            attention = model.get_submodule(name.removesuffix(".processor"))
            for letter in "kv":
                key = f"{2 * index + 1}.to_{letter}_ip.weight"
                weights[key] = torch.randn(attention.inner_dim, width) / width**0.5
        projection = {
            "proj.weight": torch.randn(tokens * width, embedding) / embedding**0.5,
            "proj.bias": torch.zeros(tokens * width),
            "norm.weight": torch.ones(width),
            "norm.bias": torch.zeros(width),
        }
    return {"image_proj": projection, "ip_adapter": weights}


def image_embeddings() -> torch.Tensor:
    """Return the IP-Adapter's image embeddings, without and with guidance: [2, 1, 16]."""
    with tiny_models.seeded(11):
        return torch.randn(2, 1, tiny_models.PROMPT_CHANNELS)


def load_ip_adapter(pipe: DiffusionPipeline) -> None:
    """Load the random IP-Adapter; the pipeline then wants image embeddings."""
    pipe.load_ip_adapter(
        ip_adapter_weights(pipe.unet), subfolder="", weight_name="", image_encoder_folder=None
    )


def lora_weights(model: UNet2DConditionModel, rank: int = 2) -> dict[str, torch.Tensor]:
    """Return a random LoRA of every attention projection and every down-sampler's convolution."""
    weights: dict[str, torch.Tensor] = {}
    with tiny_models.seeded(8):
        for name, module in model.named_modules():
            if name.endswith((".to_q", ".to_k", ".to_v")):
                down, up = (rank, module.in_features), (module.out_features, rank)
            elif ".downsamplers." in name and isinstance(module, torch.nn.Conv2d):
                down = (rank, module.in_channels, *module.kernel_size)
                up = (module.out_channels, rank, 1, 1)
            else:
                continue
            weights[f"unet.{name}.lora_A.weight"] = 0.3 * torch.randn(down)
            weights[f"unet.{name}.lora_B.weight"] = 0.3 * torch.randn(up)
    return weights


def load_lora(pipe: DiffusionPipeline) -> None:
    """Load the random LoRA."""
    pipe.load_lora_weights(lora_weights(pipe.unet), adapter_name="style")


def load_fused_lora(pipe: DiffusionPipeline) -> None:
    """Load the random LoRA and fuse it into the weights."""
    load_lora(pipe)
    pipe.fuse_lora()


def load_and_unload_lora(pipe: DiffusionPipeline) -> None:
    """Load the random LoRA and take it away again."""
    load_lora(pipe)
    pipe.unload_lora_weights()


def load_textual_inversion(pipe: DiffusionPipeline) -> None:
    """Teach each text encoder the word `<thing>`."""
    encoders = [(pipe.text_encoder, pipe.tokenizer)]
    if hasattr(pipe, "text_encoder_2"):
        encoders.append((pipe.text_encoder_2, pipe.tokenizer_2))
    with tiny_models.seeded(9):
        for encoder, tokenizer in encoders:
            pipe.load_textual_inversion(
                {"<thing>": torch.randn(1, encoder.config.hidden_size)},
                token="<thing>",
                text_encoder=encoder,
                tokenizer=tokenizer,
            )
