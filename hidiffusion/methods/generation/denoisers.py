"""What draws in a pass: the model as it is, or under HiDiffusion."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from hidiffusion.options import check_options, option
from hidiffusion.unet.config import HiDiffusionConfig
from hidiffusion.unet.patch import patched

#: Names of the denoisers in configurations.
DENOISERS = ("direct", "hidiffusion")

#: What `Pass.draws` may be, and the mechanisms of HiDiffusion that each means.
MECHANISMS: dict[str, dict[str, bool]] = {
    "direct": {"raunet": False, "window_attention": False},
    "raunet": {"raunet": True, "window_attention": False},
    "msw-msa": {"raunet": False, "window_attention": True},
    "hidiffusion": {"raunet": True, "window_attention": True},
}


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """Settings of what draws at full size; every method with a denoiser has them.

    Attributes:
        seed: the request's seed or seeds, for the window shifts.
        family: `HiDiffusionConfig.family`; needed for Playground v2.
        native_size: side of the training pictures in latents; None reads the model's.
        denoiser: what draws at full size.
        control_ratio: `HiDiffusionConfig.control_ratio`.
    """

    seed: int | tuple[int, ...] | None = None
    family: str | None = None
    native_size: int | None = None
    denoiser: str = option("direct", "What draws at full size.", words=DENOISERS)
    control_ratio: float | None = None

    def __post_init__(self) -> None:
        check_options(self)
        self.hidiffusion()

    def hidiffusion(self) -> HiDiffusionConfig:
        """Return the settings of HiDiffusion where it draws."""
        names = ("seed", "family", "native_size", "control_ratio", "t1_ratio", "t2_ratio")
        given = {name: getattr(self, name, None) for name in names}
        return HiDiffusionConfig(**{name: each for name, each in given.items() if each is not None})


def denoiser(pipe: Any, draws: str, config: HiDiffusionConfig) -> AbstractContextManager[Any]:
    """Return the `with` block in which a pipeline draws so.

    Args:
        pipe: the diffusers pipeline that runs.
        draws: a key of `MECHANISMS`.
        config: settings of HiDiffusion.
    """
    if draws == "direct":
        return nullcontext(pipe)
    return patched(pipe, **MECHANISMS[draws], config=config)


def late(name: str) -> str:
    """Return what a denoiser means in the last steps, in which RAU-Net has nothing to do."""
    return "msw-msa" if name == "hidiffusion" else name
