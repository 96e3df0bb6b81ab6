"""Where models compute, and in what, as settings name it."""

import torch


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
