"""The model as it is, under HiDiffusion, and under each half of it: one run of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hidiffusion.methods.generation.call import Call
from hidiffusion.methods.generation.denoisers import denoiser
from hidiffusion.methods.method import Method, one_pass
from hidiffusion.unet.config import HiDiffusionConfig
from hidiffusion.unet.families import resolve
from hidiffusion.unet.sites import find_unet, structure


@dataclass(frozen=True, kw_only=True)
class DirectConfig:
    """Settings of the direct method: the unpatched model has none but the seed it ignores.

    Attributes:
        seed: ignored.
        native_size: side of the training pictures in latents; None reads the model's.
    """

    seed: int | tuple[int, ...] | None = None
    native_size: int | None = None


def _single(name: str, summary: str, config_type: type[Any], draws: str) -> Method:
    """Return the row of a method that only changes how the model computes."""

    def known(pipe: Any, call: Call, config: Any) -> None:
        del call
        if draws != "direct":
            resolve(config, structure(find_unet(pipe)))

    return one_pass(
        lambda pipe, config: denoiser(pipe, draws, config),
        draws=lambda _: draws,
        costs=lambda only, _: only,
        name=name,
        summary=summary,
        config_type=config_type,
        check=known,
        models="any" if draws == "direct" else "unet",
    )


METHODS = (
    _single("direct", "the model as it is", DirectConfig, "direct"),
    _single(
        "hidiffusion",
        "smaller deep maps in the early steps, windowed attention in all",
        HiDiffusionConfig,
        "hidiffusion",
    ),
    _single("raunet", "smaller deep maps in the early steps only", HiDiffusionConfig, "raunet"),
    _single("msw-msa", "windowed attention only", HiDiffusionConfig, "msw-msa"),
)
