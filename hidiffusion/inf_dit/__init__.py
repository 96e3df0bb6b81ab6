"""Inf-DiT (Yang et al., ECCV 2024, arXiv 2405.04312): a diffusion transformer that upscales.

Pictures of any size, four times or twice as large, in memory that grows with the shorter side:

    from hidiffusion.inf_dit import InfDiTUpscalePipeline

    pipe = InfDiTUpscalePipeline.from_pretrained("models/fluent-emoji-x4")
    large = pipe(picture, scale=4).images[0]
"""

from hidiffusion.inf_dit.pipeline import ChunkDone, InfDiTUpscalePipeline, UpscaledRegion
from hidiffusion.inf_dit.sampler import HeunState, edm_sigmas
from hidiffusion.inf_dit.transformer import InfDiTTransformer

__all__ = [
    "ChunkDone",
    "HeunState",
    "InfDiTTransformer",
    "InfDiTUpscalePipeline",
    "UpscaledRegion",
    "edm_sigmas",
]
