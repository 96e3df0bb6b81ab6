"""DiMR (Liu et al., NeurIPS 2024, arXiv 2406.09416): pictures of classes, over several resolutions.

from hidiffusion.dimr import DiMRPipeline

pipe = DiMRPipeline.from_pretrained("models/emoji-classes-256")
pipe("fox").images[0]
"""

from hidiffusion.dimr.convert import from_original
from hidiffusion.dimr.norms import TimeDependentLayerNorm, TimeDependentRMSNorm
from hidiffusion.dimr.pipeline import DiMRPipeline
from hidiffusion.dimr.sampler import DPMSolverFastScheduler
from hidiffusion.dimr.transformer import DiMROutput, DiMRTransformer

__all__ = [
    "DPMSolverFastScheduler",
    "DiMROutput",
    "DiMRPipeline",
    "DiMRTransformer",
    "TimeDependentLayerNorm",
    "TimeDependentRMSNorm",
    "from_original",
]
