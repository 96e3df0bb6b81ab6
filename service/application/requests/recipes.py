"""Read a recipe back out of a picture: ours, or the `parameters` that A1111 and others write."""

import json
import re
from collections.abc import Mapping
from typing import Any

from service.domain.models.schedulers import scheduler_named
from service.domain.requests.request import GenerationRequest

#: Keyword of the PNG chunk with our own recipe, and of the one that most tools write.
_OURS, _COMMON = "hidiffusion", "parameters"

#: What `parameters` calls the fields of a request.
_FIELDS = {
    "Steps": ("num_inference_steps", int),
    "CFG scale": ("guidance_scale", float),
    "Seed": ("seed", int),
    "Denoising strength": ("strength", float),
}
_PAIR = re.compile(r'\s*([\w ]+):\s*("(?:\\.|[^"])*"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(\d+)x(\d+)")


def recipe_in(text: Mapping[str, str]) -> dict[str, Any] | None:
    """The fields of a request for the same picture, or None where the text holds no recipe.

    Args:
        text: the text chunks of a PNG.
    """
    if _OURS in text:
        return _ours(text[_OURS])
    if _COMMON in text:
        return _common(text[_COMMON])
    return None


def _ours(text: str) -> dict[str, Any] | None:
    try:
        recipe = json.loads(text)
    except ValueError:
        return None
    request = recipe.get("request", recipe) if isinstance(recipe, dict) else {}
    known = GenerationRequest.model_fields
    return {name: value for name, value in request.items() if name in known and value is not None}


def _common(text: str) -> dict[str, Any]:
    """A1111's lines: the prompt, the negative prompt, and the rest as `Name: value` pairs."""
    lines = text.strip().split("\n")
    pairs = dict(_PAIR.findall(lines.pop())) if lines[-1].startswith("Steps:") else {}
    prompt, _, negative = "\n".join(lines).partition("Negative prompt:")
    fields: dict[str, Any] = {"prompt": prompt.strip(), "negative_prompt": negative.strip()}
    for name, (field, kind) in _FIELDS.items():
        if name in pairs:
            fields[field] = kind(float(pairs[name]))
    if size := _SIZE.fullmatch(pairs.get("Size", "")):
        fields |= {"width": int(size[1]), "height": int(size[2])}
    sampler, schedule = pairs.get("Sampler"), pairs.get("Schedule type", "").lower()
    if sampler:
        variant = f" {schedule}" if schedule in {"karras", "exponential"} else ""
        fields["scheduler"] = scheduler_named(sampler + variant)
    return fields
