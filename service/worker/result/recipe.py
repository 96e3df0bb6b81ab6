"""What to write beside a picture, so that it can be made again."""

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from service.domain.requests.request import ResolvedRequest
from service.storage.metadata import RecipeText
from service.worker.weights.pipelines import Pipelines


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


#: Read once: they cannot change in a process, and reading them opens files.
_LIBRARIES = {"python": platform.python_version()} | {
    name: _version(name) for name in ("hidiffusion", "diffusers", "torch", "transformers")
}


def recipe_of(request: ResolvedRequest, pipelines: Pipelines) -> dict[str, Any]:
    """All that decides the picture, and nothing else: equal recipes, equal pictures."""
    return {
        "request": request.model_dump(),
        **pipelines.computes(request.model),
        "libraries": _LIBRARIES,
    }


def recipe_text(recipe: dict[str, Any]) -> RecipeText:
    """The recipe as the picture's file carries it."""
    return RecipeText(
        parameters=_parameters(recipe["request"]),
        recipe=json.dumps(recipe, ensure_ascii=False, sort_keys=True),
    )


def _parameters(request: dict[str, Any]) -> str:
    # As the tools that read these lines name LoRAs: within the prompt.
    loras = [f"<lora:{lora['name']}:{lora['weight']:g}>" for lora in request["loras"]]
    lines = [" ".join([request["prompt"], *loras])]
    if request["negative_prompt"]:
        lines.append(f"Negative prompt: {request['negative_prompt']}")
    facts = {
        "Steps": request["num_inference_steps"],
        "Sampler": request["scheduler"].removesuffix("Scheduler"),
        "CFG scale": f"{request['guidance_scale']:g}",
        "Seed": request["seed"],
        "Size": f"{request['width']}x{request['height']}",
        "Model": request["model"],
        "Method": request["method"],
    }
    if request["strength"] is not None:
        facts["Denoising strength"] = f"{request['strength']:g}"
    lines.append(", ".join(f"{name}: {value}" for name, value in facts.items()))
    return "\n".join(lines)
