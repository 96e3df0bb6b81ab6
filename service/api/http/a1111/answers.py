"""What A1111's clients are answered: generations, models and samplers in its terms."""

import base64
import json
from collections.abc import Sequence
from typing import Any

from service.application.generations.query import ModelStatus, Query
from service.domain.generations.generation import Generation
from service.domain.models.schedulers import A1111_NAMES, VARIANTS, class_of


def pictures(query: Query, done: Sequence[Generation], asked: dict[str, Any]) -> dict[str, Any]:
    """The answer to `txt2img` and `img2img`: the files in base64, and what made them."""
    images = [picture(query, each) for each in done]
    return {"images": images, "parameters": asked, "info": json.dumps(_info(done))}


def picture(query: Query, done: Generation) -> str:
    """The file in base64."""
    info = query.image(done.id)
    return base64.b64encode(query.read(info, 0, info.size)).decode()


def _info(done: Sequence[Generation]) -> dict[str, Any]:
    first = done[0].request
    return {
        "prompt": first.prompt,
        "all_prompts": [each.request.prompt for each in done],
        "negative_prompt": first.negative_prompt,
        "all_negative_prompts": [each.request.negative_prompt for each in done],
        "seed": first.seed,
        "all_seeds": [each.request.seed for each in done],
        "width": first.width,
        "height": first.height,
        "sampler_name": sampler_name(first.scheduler),
        "cfg_scale": first.guidance_scale,
        "steps": first.num_inference_steps,
        "batch_size": len(done),
        "sd_model_name": first.model,
        "denoising_strength": first.strength,
        "index_of_first_image": 0,
        "infotexts": [_infotext(each) for each in done],
        "generation_ids": [each.id for each in done],
    }


def _infotext(generation: Generation) -> str:
    """The lines that A1111 writes below a picture."""
    request = generation.request
    negative = f"\nNegative prompt: {request.negative_prompt}" if request.negative_prompt else ""
    return (
        f"{request.prompt}{negative}\nSteps: {request.num_inference_steps}, "
        f"Sampler: {sampler_name(request.scheduler)}, CFG scale: {request.guidance_scale:g}, "
        f"Seed: {request.seed}, Size: {request.width}x{request.height}, Model: {request.model}"
    )


def sampler_name(scheduler: str) -> str:
    """What A1111 calls a scheduler: its class's name there, and its variants."""
    name, *variants = scheduler.split("+")
    known = A1111_NAMES.get(name, name)
    shown = [each.upper() if each == "sde" else each.capitalize() for each in variants]
    return " ".join([known, *shown])


def models(statuses: Sequence[ModelStatus]) -> list[dict[str, Any]]:
    """Models as `sd-models` lists them."""
    return [
        {
            "title": status.model.name,
            "model_name": status.model.name,
            "hash": None,
            "sha256": None,
            "filename": status.model.name,
            "config": None,
        }
        for status in statuses
    ]


def upscalers(statuses: Sequence[ModelStatus]) -> list[dict[str, Any]]:
    """Upscalers; clients take the first name, `None`, for no wish."""
    unknown = {"model_path": None, "model_url": None}
    return [
        {"name": "None", "model_name": None, **unknown, "scale": 4},
        *(
            {"name": each.name, "model_name": each.title, **unknown, "scale": max(each.scales)}
            for each in (status.model for status in statuses)
            if each.kind == "upscaler"
        ),
    ]


def samplers(statuses: Sequence[ModelStatus]) -> list[dict[str, Any]]:
    """Every sampler that some model has."""
    classes = dict.fromkeys(class_of(n) for each in statuses for n in each.model.schedulers)
    return [{"name": sampler_name(n), "aliases": [n], "options": {}} for n in classes]


def schedules() -> list[dict[str, Any]]:
    """Sigma schedules; automatic is each sampler's own."""
    names = ["automatic", *(each for each in VARIANTS if each != "sde")]
    return [
        {"name": n, "label": n.capitalize(), "aliases": None, "default_rho": -1.0} for n in names
    ]


def loras(statuses: Sequence[ModelStatus]) -> list[dict[str, Any]]:
    """LoRAs of every model; which one each is for is in the metadata."""
    return [
        {"name": lora.name, "alias": lora.name, "path": lora.name, "metadata": {"model": m.name}}
        for m in (status.model for status in statuses)
        for lora in m.loras
    ]


def progress(running: Generation | None, waiting: int) -> dict[str, Any]:
    """How far the newest running generation is."""
    step = running.progress.step if running else 0
    total = running.progress.total if running else 0
    job = f"{running.progress.phase}" if running else ""
    return {
        "progress": step / total if total else 0.0,
        "eta_relative": 0.0,
        "state": {
            "skipped": False,
            "interrupted": False,
            "job": job,
            "job_count": waiting + (running is not None),
            "job_timestamp": "0",
            "job_no": 0,
            "sampling_step": step,
            "sampling_steps": total,
        },
        "current_image": None,
        "textinfo": None,
    }
