"""Reference cases of DiMR, read from `tests/hidiffusion/reference/dimr`."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from hidiffusion.dimr import DiMRTransformer, from_original

FOLDER = Path(__file__).parents[1] / "reference" / "dimr"
INDEX: dict[str, Any] = json.loads((FOLDER / "index.json").read_text())


def names(kind: str) -> list[str]:
    """Return the cases of a kind."""
    return [name for name, case in INDEX.items() if case["kind"] == kind]


def tensors(name: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return the tensors of a case, real numbers in `dtype`."""
    with np.load(FOLDER / f"{name}.npz") as file:
        read = {key: torch.from_numpy(file[key]) for key in file}
    return {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in read.items()
    }


def norm(kind: str, width: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return the tensors of one norm by itself."""
    prefix = f"{kind}{width}."
    return {
        key.removeprefix(prefix): value
        for key, value in tensors("norm_units", dtype).items()
        if key.startswith(prefix)
    }


@functools.cache
def checkpoint(weights: str) -> dict[str, Tensor]:
    """Return weights under the authors' names."""
    return load_file(FOLDER / f"{weights}.safetensors")


@functools.cache
def network(weights: str, dtype: torch.dtype = torch.float32) -> DiMRTransformer:
    """Return the network of some weights; do not change it."""
    state = {name: tensor.to(dtype) for name, tensor in checkpoint(weights).items()}
    return from_original(state, INDEX[weights]["config"])


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest absolute difference of two tensors of one shape."""
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()
