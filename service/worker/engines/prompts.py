"""From the words of requests to what a pipeline takes of them."""

from collections.abc import Sequence
from typing import Any

import torch
from compel import CompelForSD, CompelForSDXL, DiffusersTextualInversionManager

from service.domain.request import ResolvedRequest


def texts(pipe: Any, request: ResolvedRequest, mates: Sequence[ResolvedRequest]) -> dict[str, Any]:
    """The prompts of a request, or of several that are drawn together, as arguments of `pipe`."""
    if request.prompt_weighting:
        return _weighted(pipe, request)
    if not mates:
        return {"prompt": request.prompt, "negative_prompt": request.negative_prompt or None}
    rows = (request, *mates)
    negative = [row.negative_prompt for row in rows]
    return {
        "prompt": [row.prompt for row in rows],
        "negative_prompt": negative if any(negative) else None,
    }


def _weighted(pipe: Any, request: ResolvedRequest) -> dict[str, torch.Tensor]:
    """Embeddings of the prompts, with weights and of any length, by compel.

    Prompts that fit the text encoder and have no weights give what the pipeline itself makes of
    them.
    """
    pooled = getattr(pipe, "text_encoder_2", None) is not None
    build: Any = CompelForSDXL if pooled else CompelForSD
    words = DiffusersTextualInversionManager(pipe)
    embed = build(pipe, textual_inversion_manager=words, device=str(pipe.device))
    with torch.no_grad():
        made = embed([request.prompt], negative_prompt=[request.negative_prompt])
    given = {"prompt_embeds": made.embeds, "negative_prompt_embeds": made.negative_embeds}
    if pooled:
        given |= {
            "pooled_prompt_embeds": made.pooled_embeds,
            "negative_pooled_prompt_embeds": made.negative_pooled_embeds,
        }
    if not request.negative_prompt and pipe.config.get("force_zeros_for_empty_prompt"):
        for name in [name for name in given if name.startswith("negative")]:
            given[name] = torch.zeros_like(given[name])
    return given
