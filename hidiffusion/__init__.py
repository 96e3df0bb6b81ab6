"""HiDiffusion (Zhang et al., ECCV 2024, arXiv 2311.17528) for current diffusers.

Pictures beyond a model's training size, faster, without training:

    from hidiffusion import apply_hidiffusion

    apply_hidiffusion(pipe)
    pipe("a red guitar", height=2048, width=2048)
"""

from hidiffusion.errors import (
    AlreadyAppliedError,
    HiDiffusionError,
    InvalidConfigError,
    MissingSchedulerError,
    UnplannedCallError,
    UnsupportedModelError,
)

try:
    from hidiffusion.unet.config import (
        HiDiffusionConfig,
        ResolvedConfig,
        ShiftSchedule,
        random_shifts,
    )
    from hidiffusion.unet.patch import apply_hidiffusion, patched, remove_hidiffusion
except ModuleNotFoundError as error:
    if (error.name or "").startswith("hidiffusion"):
        raise
    raise ImportError(
        f"hidiffusion needs {error.name!r}, which is not installed; "
        "pip install 'hidiffusion[torch]'",
        name=error.name,
    ) from None

__all__ = [
    "AlreadyAppliedError",
    "HiDiffusionConfig",
    "HiDiffusionError",
    "InvalidConfigError",
    "MissingSchedulerError",
    "ResolvedConfig",
    "ShiftSchedule",
    "UnplannedCallError",
    "UnsupportedModelError",
    "apply_hidiffusion",
    "patched",
    "random_shifts",
    "remove_hidiffusion",
]
