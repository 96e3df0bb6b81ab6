"""The cells of the table: which kinds of pipeline are tested, for which families."""

from typing import Any

import diffusers

from tests.hidiffusion.pipelines import pipeline_kinds as kinds
from tests.hidiffusion.pipelines.pipeline_kinds import (
    CONFIGS,
    LATENTS,
    NATIVE,
    Cell,
    control,
    picture,
)
from tests.hidiffusion.tiny import models as tiny_models

_IMAGE = {"image": picture(), "strength": 1.0}
_INPAINT = {**_IMAGE, "mask_image": kinds.mask()}
_CONTROL = {"image": picture(seed=6)}
_CONTROL_TOO = {"control_image": picture(seed=6)}
_TWO_CONTROLS = {"image": [picture(seed=6), picture(seed=10)]}


def _two_controls(cell: Cell) -> dict[str, Any]:
    return control(cell, count=2)


def _lcm(cell: Cell) -> dict[str, Any]:
    model = tiny_models.unet(
        CONFIGS[cell.family], native=NATIVE, time_cond_proj_dim=tiny_models.PROMPT_CHANNELS
    )
    return {"unet": model, "scheduler": diffusers.LCMScheduler()}


def _lightning(_cell: Cell) -> dict[str, Any]:
    return {"scheduler": diffusers.EulerDiscreteScheduler(timestep_spacing="trailing")}


def _turbo(_cell: Cell) -> dict[str, Any]:
    scheduler = diffusers.EulerAncestralDiscreteScheduler(timestep_spacing="trailing")
    return {"scheduler": scheduler}


def _refiner(_cell: Cell) -> dict[str, Any]:
    model = tiny_models.unet(tiny_models.SDXL_REFINER, native=NATIVE)
    return {
        "unet": model,
        "text_encoder": None,
        "tokenizer": None,
        "requires_aesthetics_score": True,
    }


def _every_family(family: str) -> list[Cell]:
    """Return the kinds that every family has."""
    xl = family == "SDXL"
    stem = "StableDiffusionXL" if xl else "StableDiffusion"

    def cell(kind: str, suffix: str, arguments: dict[str, Any], *more: Any, **named: Any) -> Cell:
        return Cell(kind, family, f"{stem}{suffix}Pipeline", arguments, *more, **named)

    half, full = (2, 4) if xl else (1, 2)
    sent = {"ip_adapter_image_embeds": [kinds.image_embeddings()]}
    return [
        cell("Text to image", "", {}),
        cell("Image to image", "Img2Img", {**_IMAGE, "strength": 0.6}, sides=(half, full, full)),
        cell("Inpainting, base model", "Inpaint", _INPAINT),
        cell("Inpainting, inpainting model", "Inpaint", _INPAINT, kinds.wide_unet(9)),
        cell("Instruct-Pix2Pix", "InstructPix2Pix", _IMAGE, kinds.wide_unet(8)),
        cell("ControlNet", "ControlNet", _CONTROL, control),
        cell("ControlNet, guess mode", "ControlNet", {**_CONTROL, "guess_mode": True}, control),
        cell("ControlNet, several", "ControlNet", _TWO_CONTROLS, _two_controls),
        cell("ControlNet, image to image", "ControlNetImg2Img", _IMAGE | _CONTROL_TOO, control),
        cell("ControlNet, inpainting", "ControlNetInpaint", _INPAINT | _CONTROL_TOO, control),
        cell("T2I-Adapter", "Adapter", _CONTROL, kinds.adapter),
        cell("IP-Adapter", "", sent, load=kinds.load_ip_adapter),
        cell("LoRA", "", {}, load=kinds.load_lora),
        cell("LoRA, fused", "", {}, load=kinds.load_fused_lora),
        cell("LoRA, unloaded", "", {}, load=kinds.load_and_unload_lora),
        cell("Textual inversion", "", {"prompt": "a <thing>"}, load=kinds.load_textual_inversion),
        cell("PAG", "PAG", {}),
        cell("PAG, image to image", "PAGImg2Img", _IMAGE),
        cell("PAG, inpainting", "PAGInpaint", _INPAINT),
        cell("PAG, ControlNet", "ControlNetPAG", _CONTROL, control),
    ]


_XL = "StableDiffusionXLPipeline"
_ONLY_SD15 = [
    Cell(
        "LCM",
        "SD 1.5",
        "LatentConsistencyModelPipeline",
        {"num_inference_steps": 4, "original_inference_steps": 50},
        _lcm,
        sides=(1, 2, 2, 2),
    ),
    Cell(
        "LCM, image to image",
        "SD 1.5",
        "LatentConsistencyModelImg2ImgPipeline",
        {**_IMAGE, "num_inference_steps": 4, "original_inference_steps": 50},
        _lcm,
        sides=(1, 2, 2, 2),
    ),
    Cell(
        "PAG, ControlNet, inpainting",
        "SD 1.5",
        "StableDiffusionControlNetPAGInpaintPipeline",
        _INPAINT | _CONTROL_TOO,
        control,
    ),
]
_ONLY_SDXL = [
    Cell("LCM", "SDXL", _XL, {"num_inference_steps": 4}, _lcm, sides=(2, 4, 4, 4)),
    Cell(
        "Lightning",
        "SDXL",
        _XL,
        {"num_inference_steps": 4, "guidance_scale": 0.0},
        _lightning,
        sides=(2, 4, 4, 4),
    ),
    Cell(
        "Turbo, two steps",
        "SDXL",
        _XL,
        {"num_inference_steps": 2, "guidance_scale": 0.0},
        _turbo,
        options={"family": "sdxl-turbo"},
        sides=(2, 4),
    ),
    Cell(
        "Turbo, one step",
        "SDXL",
        _XL,
        {"num_inference_steps": 1, "guidance_scale": 0.0},
        _turbo,
        options={"family": "sdxl-turbo"},
        sides=(2,),
    ),
    Cell("Split schedule, base", "SDXL", _XL, {"denoising_end": 0.6}, sides=(2, 4, 4)),
    Cell(
        "Split schedule, refiner",
        "SDXL",
        "StableDiffusionXLImg2ImgPipeline",
        {"image": picture(4, side=LATENTS), "denoising_start": 0.6},
        _refiner,
        sides=(2, 2),
    ),
    Cell(
        "PAG, ControlNet, image to image",
        "SDXL",
        "StableDiffusionXLControlNetPAGImg2ImgPipeline",
        _IMAGE | _CONTROL_TOO,
        control,
    ),
    Cell(
        "ControlNet Union",
        "SDXL",
        "StableDiffusionXLControlNetUnionPipeline",
        {"control_image": [picture(seed=6)], "control_mode": [0]},
        kinds.control_union,
    ),
]

CELLS = [cell for family in CONFIGS for cell in _every_family(family)] + _ONLY_SD15 + _ONLY_SDXL
