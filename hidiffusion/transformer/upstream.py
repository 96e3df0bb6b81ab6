"""The only file of this folder that knows names of diffusers that its documentation omits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers.models import embeddings
from torch import Tensor

_rotary: Any = embeddings.apply_rotary_emb

#: Turns pairs of dimensions by cosines and sines.
apply_rotary_emb: Callable[..., Tensor] = _rotary

#: Pipeline methods that begin a run: the first is called before the schedule is set, but not by
#: Z-Image's pipelines where they are given embeddings; the second is called in every run.
RUN_STARTS = ("encode_prompt", "prepare_latents")
