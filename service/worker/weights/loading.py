"""From an entry of the catalogue to a diffusers pipeline in memory."""

from pathlib import Path
from typing import Any

import diffusers
import torch

from service.catalog.inspect import read_config, variant_of
from service.domain.models.catalog import Model
from service.worker.weights.adapters import load_embedding


def load_pipeline(model: Model, dtype: torch.dtype) -> Any:
    """Read a model's weights, with its own autoencoder or another, and its learned words.

    A folder whose weights are half precision alone is read as it is, whether its entry names the
    variant or not.

    Raises:
        Exception: whatever diffusers says of a source that it cannot read.
    """
    local = Path(model.source).is_dir()
    others: dict[str, Any] = _absent(Path(model.source)) if local else {}
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


def _load_vae(source: str, dtype: torch.dtype) -> Any:
    local = Path(source).is_dir()
    loader: Any = diffusers.AutoencoderKL
    variant = variant_of(Path(source)) if local else None
    return loader.from_pretrained(
        source, torch_dtype=dtype, local_files_only=local, variant=variant
    )
