"""Where models compute, and in what, as settings name it."""

from typing import Any

import torch

from service.domain.models.catalog import Model
from service.domain.models.low_memory import Offload


def chosen_device(name: str) -> torch.device:
    """The device of this name; "auto" is CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def chosen_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of this name; "auto" is half precision on CUDA alone.

    Raises:
        ValueError: torch has no such dtype.
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(
            f"{name!r} is no torch dtype; set HIDIFFUSION_WORKER__DTYPE to auto, float32, "
            "float16 or bfloat16"
        )
    return dtype


def dtype_for(model: Model, dtype: torch.dtype) -> torch.dtype:
    """What a model computes in on a worker of this dtype: bfloat16 where it overflows float16."""
    return torch.bfloat16 if model.bfloat16 and dtype is torch.float16 else dtype


def place(pipe: Any, device: torch.device, offload: Offload | None) -> None:
    """Bring a pipeline to its device, or only what computes at the moment.

    The autoencoder stays on the device where layers wait by themselves: the exact tiled decoder
    reads its weights.
    """
    if offload is None:
        pipe.to(device)
    elif offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.enable_group_offload(
            device, torch.device("cpu"), offload_type="leaf_level", exclude_modules=["vae"]
        )
