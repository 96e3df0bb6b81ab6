"""Requests to upscalers: a picture and how many times larger it is to be."""

from collections.abc import Iterator, Mapping

from service.application.requests.parse import shortened
from service.application.requests.picture_options import picture_violations, resolved_quality
from service.application.sources.uploads import Given
from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.generations.generation import Generation
from service.domain.models.catalog import Catalog, Model
from service.domain.requests.request import GenerationRequest, ResolvedRequest, as_asked
from service.domain.requests.seeds import drawn_seed
from service.domain.requests.upscaling import Upscale, UpscaleChoice

#: Fields of a request to an upscaler: its picture, how it is enlarged, and as what it is delivered.
#: Beside them it may have what its record keeps; everything else is about drawing.
_TAKEN = {
    "prompt",
    "model",
    "image",
    "scale",
    "num_inference_steps",
    "seed",
    "output_format",
    "bit_depth",
    "quality",
    "tile_format",
    "tiles",
    "metadata",
}


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
    fields = as_asked(request, ResolvedRequest) | {
        "negative_prompt": "",
        "model": model.name,
        "width": picture.width * scale,
        "height": picture.height * scale,
        "num_inference_steps": request.num_inference_steps or model.default_steps,
        "guidance_scale": 0.0,
        "seed": drawn_seed(request.seed),
        "scheduler": model.default_scheduler,
        "method": model.default_method,
        "quality": resolved_quality(request),
        "image": picture.id,
        "scale": scale,
    }
    resolved = ResolvedRequest(**fields)
    if violations := [
        *_drawing_violations(request, model),
        *_scale_violations("scale", scale, picture.width, picture.height, model),
        *_steps_violations("num_inference_steps", resolved.num_inference_steps, model),
        *picture_violations(resolved),
    ]:
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
    steps = choice.num_inference_steps or model.default_steps
    if violations := [
        *_scale_violations("upscale.scale", scale, width, height, model),
        *_steps_violations("upscale.num_inference_steps", steps, model),
    ]:
        raise InvalidRequest(violations)
    return Upscale(model=model.name, scale=scale, num_inference_steps=steps)


def _drawing_violations(request: GenerationRequest, model: Model) -> Iterator[FieldViolation]:
    kept = Generation.model_fields.keys()
    for name, field in GenerationRequest.model_fields.items():
        value = getattr(request, name)
        if name in _TAKEN or name in kept or value == field.get_default(call_default_factory=True):
            continue
        rule = f"{model.name} enlarges pictures and draws none; leave it out"
        yield FieldViolation(name, shortened(value), rule)


def _scale_violations(
    field: str, scale: int, width: int, height: int, model: Model
) -> Iterator[FieldViolation]:
    """What speaks against enlarging a picture of `width` x `height` pixels so many times."""
    if scale not in model.scales:
        yield FieldViolation(
            field, repr(scale), f"{model.name} takes {', '.join(map(str, model.scales))}"
        )
    elif scale * max(width, height) > model.max_size:
        rule = (
            f"{scale} times {width} x {height} is more than the {model.max_size} pixels a side that"
            f" {model.name} makes; take a picture of up to {model.max_size // scale} pixels a side,"
            " or a smaller scale"
        )
        yield FieldViolation(field, repr(scale), rule)


def _steps_violations(field: str, steps: int, model: Model) -> Iterator[FieldViolation]:
    if model.engine == "spandrel" and steps != 1:
        yield FieldViolation(field, repr(steps), f"{model.name} enlarges in one pass; leave it out")
