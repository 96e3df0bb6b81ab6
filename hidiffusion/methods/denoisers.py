"""What draws at full size under a guide: the model as it is, or under HiDiffusion."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from hidiffusion.unet.config import HiDiffusionConfig
from hidiffusion.unet.patch import patched

#: Names of the denoisers in configurations.
DENOISERS = ("direct", "hidiffusion")

#: What `Pass.draws` may be, and the mechanisms of HiDiffusion that each means.
MECHANISMS: dict[str, dict[str, bool]] = {
    "direct": {"raunet": False, "window_attention": False},
    "raunet": {"raunet": True, "window_attention": False},
    "windows": {"raunet": False, "window_attention": True},
    "hidiffusion": {"raunet": True, "window_attention": True},
}


def denoiser(
    pipe: Any, draws: str, seed: int | tuple[int, ...] | None, **ratios: Any
) -> AbstractContextManager[Any]:
    """Return the `with` block in which a pipeline draws so.

    Args:
        pipe: a diffusers pipeline.
        draws: a key of `MECHANISMS`.
        seed: seed or seeds of the window shifts.
        **ratios: fields of `HiDiffusionConfig` besides.
    """
    if draws == "direct":
        return nullcontext(pipe)
    return patched(pipe, **MECHANISMS[draws], config=HiDiffusionConfig(seed=seed, **ratios))


def late(name: str) -> str:
    """Return what a denoiser means in the last steps, in which RAU-Net has nothing to do."""
    return "windows" if name == "hidiffusion" else name
