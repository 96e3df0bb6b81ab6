"""The reference's cases, whose numbers came from the authors' program."""

import functools
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from hidiffusion.inf_dit import InfDiTTransformer
from hidiffusion.inf_dit.convert import from_original

FOLDER = Path(__file__).parents[1] / "reference" / "inf_dit"
CASES: dict[str, Any] = json.loads((FOLDER / "cases.json").read_text())
EVALUATIONS = [name for name, case in CASES.items() if case.get("kind") == "network_evaluation"]
SAMPLINGS = [name for name, case in CASES.items() if case.get("kind") == "heun_sampling"]


@functools.cache
def tensors() -> dict[str, Tensor]:
    """All inputs and outputs, by `case/name`."""
    return load_file(FOLDER / "cases.safetensors")


def tensor(case: str, name: str) -> Tensor:
    """One input or output."""
    return tensors()[f"{case}/{name}"]


def weights(name: str) -> dict[str, Tensor]:
    """The authors' tensors of one of the two models."""
    return load_file(FOLDER / f"{name}.safetensors")


@functools.cache
def model(name: str) -> InfDiTTransformer:
    """One of the two models, float32."""
    return from_original(weights(name), CASES[name]["config"])


def evaluate(case: str, chunk_blocks: int | None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Our answer to a network evaluation."""
    network = model(CASES[case]["weights"]).to(dtype)
    given = {name: tensor(case, f"in.{name}").to(dtype) for name in ("x", "lr", "lr_up", "vector")}
    try:
        return network.denoise(
            given["x"],
            tensor(case, "in.sigma").to(dtype),
            lr=given["lr"],
            lr_up=given["lr_up"],
            image_embeds=given["vector"],
            chunk_blocks=chunk_blocks,
        )
    finally:
        network.float()
