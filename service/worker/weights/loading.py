"""From an entry of the catalogue to a diffusers pipeline in memory."""

import importlib
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from service.catalog.inspect import read_config, variant_of
from service.domain.models.catalog import Model
from service.domain.models.low_memory import Quantization
from service.worker.weights.adapters import load_embedding

_DENOISERS = ("unet", "transformer")


def load_pipeline(model: Model, dtype: torch.dtype) -> Any:
    """Read a model's weights, with its own autoencoder or another, and its learned words.

    A folder whose weights are half precision alone is read as it is, whether its entry names the
    variant or not.

    Raises:
        Exception: whatever diffusers says of a source that it cannot read.
    """
    local = Path(model.source).is_dir()
    others: dict[str, Any] = _absent(Path(model.source)) if local else {}
    if model.quantization is not None:
        others["quantization_config"] = _quantized(model.source, model.quantization, dtype)
    if model.vae is not None:
        others["vae"] = _load_vae(model.vae, dtype)
    loader: Any = diffusers.DiffusionPipeline
    pipe = loader.from_pretrained(
        model.source,
        dtype=dtype,
        local_files_only=local,
        variant=model.variant or (variant_of(Path(model.source)) if local else None),
        revision=model.revision,
        **others,
    )
    for embedding in model.embeddings:
        load_embedding(pipe, embedding)
    return pipe


def _absent(folder: Path) -> dict[str, None]:
    """Name the parts that a pipeline was saved without, such as Stable Diffusion 3's T5.

    Diffusers asks to be told again of those that its class does not call optional.
    """
    parts = read_config(folder / "model_index.json").items()
    return {name: None for name, part in parts if isinstance(part, list) and part[0] is None}


def _quantized(source: str, kind: Quantization, dtype: torch.dtype) -> Any:
    """Settings for diffusers: the denoiser, and every text encoder that is no CLIP, in fewer bits.

    Transformers and diffusers have a class of their own for the same settings.
    """
    parts = diffusers.DiffusionPipeline.load_config(source)
    known = {
        name: transformers if part[0] == "transformers" else diffusers
        for name, part in parts.items()
        if name in _DENOISERS or (name.startswith("text_encoder") and part[0] is not None)
        if not str(part[1]).startswith("CLIP")
    }
    mapping = {name: _settings(library, kind, dtype) for name, library in known.items()}
    build: Any = diffusers
    return build.PipelineQuantizationConfig(quant_mapping=mapping)


def _settings(library: Any, kind: Quantization, dtype: torch.dtype) -> Any:
    if kind == "torchao-int8":
        torchao = importlib.import_module("torchao.quantization")
        return library.TorchAoConfig(torchao.Int8WeightOnlyConfig())
    if kind == "bnb-8bit":
        return library.BitsAndBytesConfig(load_in_8bit=True)
    return library.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def _load_vae(source: str, dtype: torch.dtype) -> Any:
    local = Path(source).is_dir()
    loader: Any = diffusers.AutoencoderKL
    variant = variant_of(Path(source)) if local else None
    return loader.from_pretrained(
        source, torch_dtype=dtype, local_files_only=local, variant=variant
    )
