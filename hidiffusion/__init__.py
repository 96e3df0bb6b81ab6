"""HiDiffusion (Zhang et al., ECCV 2024, arXiv 2311.17528) for current diffusers.

Pictures beyond a model's training size, faster, without training:

    from hidiffusion import apply_hidiffusion

    apply_hidiffusion(pipe)
    pipe("a red guitar", height=2048, width=2048)
"""

from hidiffusion.errors import (
    AlreadyAppliedError,
    ConcurrentCallError,
    HiDiffusionError,
    InterruptedGenerationError,
    InvalidConfigError,
    MissingSchedulerError,
    UnannouncedRunWarning,
    UnknownTimestepError,
    UnplannedCallError,
    UnsupportedModelError,
    UnsupportedPipelineError,
)

try:
    from hidiffusion.unet.attention import set_attention_backend
    from hidiffusion.unet.config import (
        HiDiffusionConfig,
        ResolvedConfig,
        ShiftSchedule,
        random_shifts,
    )
    from hidiffusion.unet.patch import apply_hidiffusion, is_applied, patched, remove_hidiffusion
    from hidiffusion.unet.record import Settings
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
    "ConcurrentCallError",
    "HiDiffusionConfig",
    "HiDiffusionError",
    "InterruptedGenerationError",
    "InvalidConfigError",
    "MissingSchedulerError",
    "ResolvedConfig",
    "Settings",
    "ShiftSchedule",
    "UnannouncedRunWarning",
    "UnknownTimestepError",
    "UnplannedCallError",
    "UnsupportedModelError",
    "UnsupportedPipelineError",
    "apply_hidiffusion",
    "is_applied",
    "patched",
    "random_shifts",
    "remove_hidiffusion",
    "set_attention_backend",
]

__version__ = "0.1.0"
