"""HiDiffusion's two findings on diffusion transformers: positions, windows and time shift.

from hidiffusion import transformer

with transformer.patched(pipe):  # FluxPipeline, QwenImagePipeline, ZImagePipeline, ...
    pipe("a red guitar", height=2048, width=2048)
"""

from hidiffusion.transformer.config import TransformerConfig
from hidiffusion.transformer.families import FAMILIES, Family, find_transformer, is_transformer
from hidiffusion.transformer.patch import apply, patched, remove

__all__ = [
    "FAMILIES",
    "Family",
    "TransformerConfig",
    "apply",
    "find_transformer",
    "is_transformer",
    "patched",
    "remove",
]
