"""From the words of requests to what a pipeline takes of them."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from compel import CompelForSD, CompelForSDXL, DiffusersTextualInversionManager
from diffusers import FluxPipeline, QwenImagePipeline

from service.domain.requests.request import ResolvedRequest
from service.worker.job.failures import UnsupportedRequest

_QWEN: Any = QwenImagePipeline


def texts(pipe: Any, request: ResolvedRequest, mates: Sequence[ResolvedRequest]) -> dict[str, Any]:
    """The prompts of a request, or of several that are drawn together, as arguments of `pipe`."""
    if request.prompt_weighting:
        return _weighted(pipe, request)
    rows = (request, *mates)
    negative = [row.negative_prompt for row in rows]
    if not _guided_by_two_calls(pipe):
        if any(negative):
            raise UnsupportedRequest(
                f"negative_prompt is {next(filter(None, negative))!r}, but {request.model} is "
                "guided by a number that it is told, not by a second prompt; leave it out"
            )
        return {"prompt": [row.prompt for row in rows] if mates else request.prompt}
    if not mates:
        return {"prompt": request.prompt, "negative_prompt": request.negative_prompt or None}
    return {
        "prompt": [row.prompt for row in rows],
        "negative_prompt": negative if any(negative) else None,
    }


def guidance(pipe: Any, request: ResolvedRequest) -> dict[str, Any]:
    """The strength of guidance, as an argument of `pipe`.

    Qwen-Image's pipeline has a word of its own for guidance by two calls, and does it only where it
    is given a negative prompt.
    """
    if isinstance(pipe, _QWEN) and not pipe.transformer.config.guidance_embeds:
        empty = {} if request.negative_prompt else {"negative_prompt": " "}
        return {"true_cfg_scale": request.guidance_scale, **empty}
    return {"guidance_scale": request.guidance_scale}


def _guided_by_two_calls(pipe: Any) -> bool:
    """Whether a negative prompt acts; Flux takes one, and uses it only where it is told so."""
    names = inspect.signature(type(pipe).__call__).parameters
    return "negative_prompt" in names and not isinstance(pipe, FluxPipeline)


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
