"""Requests to upscalers: a picture and how many times larger it is to be."""

import secrets
from collections.abc import Iterator, Mapping

from service.application.picture_options import picture_violations, resolved_quality
from service.application.uploads import Given
from service.domain.catalog import Catalog, Model
from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.request import MAX_SEED, GenerationRequest, ResolvedRequest
from service.domain.upscaling import Upscale, UpscaleChoice

#: What a request to an upscaler may say beside its picture, its scale and what it is delivered as.
_DRAWING = (
    "class_label",
    "negative_prompt",
    "width",
    "height",
    "guidance_scale",
    "prompt_weighting",
    "loras",
    "scheduler",
    "method",
    "method_options",
    "mask",
    "strength",
    "controls",
    "image_prompt",
    "upscale",
)


def resolve_upscaling(
    request: GenerationRequest, model: Model, given: Mapping[str, Given]
) -> ResolvedRequest:
    """Fill in an upscaler's defaults; width and height become those of the result.

    Args:
        request: what a client asks for.
        model: an upscaler of the catalogue.
        given: the pictures that the request names, by field.

    Raises:
        InvalidRequest: naming every field that an upscaler does not allow.
    """
    picture = given.get("image")
    if picture is None:
        rule = f"{model.name} enlarges a picture: give it as an upload or otherwise"
        raise InvalidRequest([FieldViolation("image", "nothing", rule)])
    scale = max(model.scales) if request.scale is None else request.scale
    resolved = ResolvedRequest(
        prompt=request.prompt,
        negative_prompt="",
        model=model.name,
        width=picture.width * scale,
        height=picture.height * scale,
        num_inference_steps=request.num_inference_steps or model.default_steps,
        guidance_scale=0.0,
        seed=secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed,
        scheduler=model.default_scheduler,
        method=model.default_method,
        output_format=request.output_format,
        bit_depth=request.bit_depth,
        quality=resolved_quality(request),
        tile_format=request.tile_format,
        tiles=request.tiles,
        metadata=request.metadata,
        image=picture.id,
        scale=scale,
    )
    if violations := [*_violations(request, resolved, model), *picture_violations(resolved)]:
        raise InvalidRequest(violations)
    return resolved


def resolved_upscale(
    choice: UpscaleChoice | None, catalog: Catalog, width: int, height: int
) -> Upscale | None:
    """Fill in an upscaler's defaults where it is the second stage.

    Args:
        choice: what a client asks for.
        catalog: the models there are.
        width: of the picture that is drawn, in pixels.
        height: likewise.

    Raises:
        InvalidRequest: there is no such upscaler, or it does not make such a picture.
    """
    if choice is None:
        return None
    upscalers = [each for each in catalog.models if each.kind == "upscaler"]
    model = next((each for each in upscalers if each.name == choice.model), None)
    if model is None:
        names = ", ".join(each.name for each in upscalers) or "none: this service has no upscaler"
        rule = f"allowed are {names}"
        raise InvalidRequest([FieldViolation("upscale.model", repr(choice.model), rule)])
    scale = max(model.scales) if choice.scale is None else choice.scale
    if scale not in model.scales:
        rule = f"{model.name} takes {', '.join(map(str, model.scales))}"
        raise InvalidRequest([FieldViolation("upscale.scale", repr(scale), rule)])
    if scale * max(width, height) > model.max_size:
        rule = (
            f"{scale} times {width} x {height} is more than the {model.max_size} pixels a side that"
            f" {model.name} makes; draw up to {model.max_size // scale} pixels a side"
        )
        raise InvalidRequest([FieldViolation("upscale.scale", repr(scale), rule)])
    steps = choice.num_inference_steps or model.default_steps
    return Upscale(model=model.name, scale=scale, num_inference_steps=steps)


def _violations(
    request: GenerationRequest, resolved: ResolvedRequest, model: Model
) -> Iterator[FieldViolation]:
    defaults = type(request).model_fields
    for name in _DRAWING:
        value = getattr(request, name)
        if value != defaults[name].get_default(call_default_factory=True):
            rule = f"{model.name} enlarges pictures and draws none; leave it out"
            yield FieldViolation(name, repr(value)[:80], rule)
    if resolved.scale not in model.scales:
        allowed = ", ".join(map(str, model.scales))
        yield FieldViolation("scale", repr(resolved.scale), f"{model.name} takes {allowed}")
        return
    largest = max(resolved.width, resolved.height)
    if largest > model.max_size:
        rule = (
            f"{resolved.scale} times that is {largest} pixels, and {model.name} makes up to "
            f"{model.max_size}: give a picture of up to {model.max_size // resolved.scale} pixels"
            " a side, or a smaller scale"
        )
        yield FieldViolation("image", f"a picture of {largest // resolved.scale} pixels", rule)
