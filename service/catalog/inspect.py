"""What weights are, read from their configurations and headers alone: nothing is loaded."""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.catalog import transformers

#: Pipelines with a U-Net that the service draws with, and their structure.
PIPELINES = {"StableDiffusionPipeline": "sd", "StableDiffusionXLPipeline": "sdxl"}

#: Longest header of a safetensors file that its format allows, in bytes.
_MAX_HEADER = 100_000_000

_INPUT = "model.diffusion_model.input_blocks.0.0.weight"
_SD_CONTEXT = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_XL_ENCODER = "conditioner.embedders.1.model."
_REFINER_ENCODER = "conditioner.embedders.0.model."

#: Width of the text encoders' states, by the generation of Stable Diffusion.
_SD2_CONTEXT = 1024

#: Latents to pixels in every supported family.
LATENT_PIXELS = 8

#: The variant in the name of a file of weights, whole or one of several.
_VARIANT = re.compile(r"\.(fp16|bf16)[.-]")


#: What files of diffusion transformers alone have in the names of their tensors.
_OF_TRANSFORMERS = ("double_blocks", "joint_blocks", "noise_refiner", "img_mod")

#: Why pipelines that people ask for are not drawn with.
_REFUSED = {
    "KolorsPipeline": ", whose text encoder, ChatGLM, is not read here",
    "QwenImagePipeline": ", whose autoencoder cannot be decoded in exact tiles",
}


class UnknownWeights(ValueError):
    """What lies there is no model that the service can use; says what it is and what would do."""


@dataclass(frozen=True)
class Found:
    """What a model's files say of it.

    Attributes:
        structure: "sd", "sdxl", or a transformer's of `service.catalog.transformers`.
        native_size: side of its training pictures in pixels; None where the files do not say.
        context: width of the text encoder's states; 0 where the files do not say.
        prediction_type: of its scheduler, by diffusers' name; None where the files do not say.
        variant: of the weights' files, such as fp16.
        small: whether blocks of the U-Net were left out, as in SSD-1B.
        edm: whether it predicts by EDM's formulation, as Playground 2.5.
        single_file: whether it is one file in the original layout, to be converted.
        preset: that its configurations name; empty where only its name tells.
    """

    structure: str
    native_size: int | None
    context: int
    prediction_type: str | None
    variant: str | None = None
    small: bool = False
    edm: bool = False
    single_file: bool = False
    preset: str = ""

    @property
    def network(self) -> str:
        """What estimates the noise: "unet" or "transformer"."""
        return "unet" if self.structure in PIPELINES.values() else "transformer"


def inspect_model(path: Path) -> Found:
    """What the model in a folder of diffusers' layout, or in a single `.safetensors` file, is.

    Raises:
        UnknownWeights: it is neither, a part is missing, or the service cannot draw with it.
    """
    if path.is_dir():
        return _folder(path)
    if path.suffix != ".safetensors":
        raise UnknownWeights(
            f"{str(path)!r} is neither a folder of diffusers' layout nor a .safetensors file; "
            "a .ckpt holds code: convert it to .safetensors first"
        )
    return _single_file(path)


def variant_of(folder: Path) -> str | None:
    """The variant of a folder's weights, where some part has no other; else None."""
    for part in (folder, *(each for each in folder.iterdir() if each.is_dir())):
        weights = [each.name for each in part.glob("*.safetensors")]
        weights = weights or [each.name for each in part.glob("*.bin")]
        variants = {found[1] if (found := _VARIANT.search(name)) else None for name in weights}
        if len(variants) == 1 and (only := variants.pop()) is not None:
            return only
    return None


def read_header(path: Path) -> dict[str, Any]:
    """Names, dtypes and shapes of the tensors in a `.safetensors` file, and its metadata.

    Raises:
        UnknownWeights: it is no such file, or was cut off.
    """
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MAX_HEADER + 1
        text = file.read(length) if length <= _MAX_HEADER else b""
    try:
        header: dict[str, Any] = json.loads(text)
        end = max(each["data_offsets"][1] for name, each in header.items() if name[0] != "_")
    except (ValueError, KeyError, TypeError, IndexError):
        raise UnknownWeights(f"{str(path)!r} is no safetensors file") from None
    if path.stat().st_size < 8 + length + end:
        raise UnknownWeights(f"{str(path)!r} is cut off; download it again")
    return header


def read_config(path: Path) -> dict[str, Any]:
    """A part's configuration; raises `UnknownWeights` where there is none that can be read."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UnknownWeights(f"{str(path)!r} is missing") from None
    except ValueError as error:
        raise UnknownWeights(f"{str(path)!r} is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise UnknownWeights(f"{str(path)!r} holds no object")
    return config


def _folder(path: Path) -> Found:
    index = read_config(path / "model_index.json")
    kind = index.get("_class_name")
    row = transformers.BY_PIPELINE.get(str(kind))
    if kind not in PIPELINES and row is None:
        known = ", ".join([*PIPELINES, *transformers.BY_PIPELINE])
        why = _REFUSED.get(str(kind), "")
        raise UnknownWeights(f"{str(path)!r} is a {kind}{why}; the service draws with {known}")
    for name, part in index.items():
        if isinstance(part, list) and part[0] is not None:
            _check_part(path / name)
    return _with_unet(path, str(kind)) if row is None else _with_transformer(path, row, index)


def _with_transformer(path: Path, row: transformers.Row, index: Mapping[str, Any]) -> Found:
    transformer = read_config(path / "transformer" / "config.json")
    scheduler = read_config(path / "scheduler" / "scheduler_config.json")
    wrong = transformers.trouble(row, transformer, read_config(path / "vae" / "config.json"))
    if wrong is not None:
        raise UnknownWeights(f"{str(path)!r} cannot be drawn with: {wrong}")
    return Found(
        structure=row.structure,
        native_size=transformers.native_size(row, transformer),
        context=0,
        prediction_type=None,
        variant=variant_of(path),
        preset=row.preset(transformer, scheduler, index),
    )


def _with_unet(path: Path, kind: str) -> Found:
    unet = read_config(path / "unet" / "config.json")
    scheduler = read_config(path / "scheduler" / "scheduler_config.json")
    vae = read_config(path / "vae" / "config.json")
    _check_channels(unet.get("in_channels", 4), path)
    sample_size = unet.get("sample_size")
    layers = unet.get("transformer_layers_per_block")
    return Found(
        structure=PIPELINES[kind],
        native_size=sample_size * LATENT_PIXELS if isinstance(sample_size, int) else None,
        context=int(unet.get("cross_attention_dim", 0)),
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        variant=variant_of(path),
        small=isinstance(layers, list) and any(isinstance(each, list) for each in layers),
        edm="EDM" in str(scheduler.get("_class_name")) or vae.get("latents_mean") is not None,
    )


def _check_part(folder: Path) -> None:
    """Refuse a part that is not there, or whose weights are not, or are cut off."""
    if not folder.is_dir() or not any(folder.iterdir()):
        raise UnknownWeights(f"the part {folder.name!r} of {str(folder.parent)!r} is missing")
    index = next(folder.glob("*.safetensors.index*.json"), None)
    if index is not None:
        for name in set(read_config(index).get("weight_map", {}).values()):
            read_header(_there(folder / name))
    for file in folder.glob("*.safetensors"):
        read_header(file)
    weightless = {"scheduler", "feature_extractor"}
    if (
        not folder.name.startswith("tokenizer")
        and folder.name not in weightless
        and not any(each.suffix in {".safetensors", ".bin"} for each in folder.iterdir())
    ):
        raise UnknownWeights(f"{str(folder)!r} has no weights; download them again")


def _there(path: Path) -> Path:
    if not path.exists():
        raise UnknownWeights(f"{str(path)!r} is missing; download it again")
    return path


def _single_file(path: Path) -> Found:
    header = read_header(path)
    if _INPUT not in header:
        raise UnknownWeights(f"{str(path)!r} is no checkpoint: {_what_else(header)}")
    _check_channels(header[_INPUT]["shape"][1], path)
    xl = any(name.startswith(_XL_ENCODER) for name in header)
    if not xl and any(name.startswith(_REFINER_ENCODER) for name in header):
        raise UnknownWeights(
            f"{str(path)!r} is a refiner, which only finishes pictures; add the base model"
        )
    context = header[_SD_CONTEXT]["shape"][1] if _SD_CONTEXT in header else 0
    predicts = "v_prediction" if "v_pred" in header else None
    small = xl and "model.diffusion_model.output_blocks.0.1.transformer_blocks.9.norm1.weight"
    return Found(
        structure="sdxl" if xl else "sd",
        native_size=1024 if xl else None,
        context=context,
        prediction_type=predicts,
        small=bool(small) and small not in header and _looks_full(header),
        edm="edm_mean" in header,
        single_file=True,
    )


def _looks_full(header: Mapping[str, Any]) -> bool:
    """Whether the U-Net is of SDXL's real width; tiny ones for tests have few layers anyway."""
    return bool(header[_INPUT]["shape"][0] >= 320)


def _check_channels(channels: int, path: Path) -> None:
    if channels != 4:
        raise UnknownWeights(
            f"the U-Net of {str(path)!r} takes {channels} channels, as inpainting and depth models "
            "do; the service inpaints with any model of 4 channels, so add the base model instead"
        )


def _what_else(header: Mapping[str, Any]) -> str:
    """What a `.safetensors` file is that is no checkpoint, and how to add it."""
    names = tuple(header)
    if any("lora" in name for name in names):
        return "it is a LoRA; add it with --lora FILE --for MODEL"
    if any(name.startswith(("control_model.", "controlnet_")) for name in names):
        return "it is a ControlNet; add it with --controlnet FOLDER --for MODEL"
    if any("ip_adapter" in name for name in names):
        return "it is an IP-Adapter; add it with --ip-adapter FILE --for MODEL"
    if {"emb_params"} & {*names} or {"clip_l", "clip_g"} <= {*names}:
        return "it is a textual inversion; add it with --embedding FILE --for MODEL"
    if any(part in name.split(".") for name in names for part in _OF_TRANSFORMERS):
        return (
            "it is a diffusion transformer without its text encoders; add the whole model, as a "
            "folder in diffusers' layout or a hub id such as black-forest-labs/FLUX.1-dev"
        )
    return "it holds no U-Net in the original layout"
