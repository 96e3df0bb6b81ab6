"""What a request that starts from a picture takes from it, and what it may not ask."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from service.application.sources.elsewhere import is_generation_id, is_url
from service.application.sources.uploads import DATA, Given
from service.domain.errors import FieldViolation
from service.domain.models.catalog import Model
from service.domain.models.controls import picture_field
from service.domain.models.image_prompts import PICTURE_FIELD
from service.domain.models.methods import METHODS
from service.domain.requests.request import GenerationRequest, ResolvedRequest

#: Fields of a request that name a picture; those of its controls and its prompt come beside.
PICTURES = ("image", "mask")

#: Share of the steps that is run when a request does not say: as diffusers' pipelines have it.
DEFAULT_STRENGTH = 0.8
DEFAULT_MASK_STRENGTH = 1.0


def references(request: GenerationRequest) -> dict[str, str]:
    """The pictures that a request names, by field."""
    named = {field: getattr(request, field) for field in PICTURES}
    named |= {picture_field(index): each.image for index, each in enumerate(request.controls)}
    if request.image_prompt is not None:
        named[PICTURE_FIELD] = request.image_prompt.image
    return {field: reference for field, reference in named.items() if reference is not None}


def holds_pictures(request: GenerationRequest) -> bool:
    """Whether a request has pictures that have to be decoded before it is accepted."""
    named = references(request).values()
    return any(each.startswith(DATA) or is_generation_id(each) for each in named)


def names_urls(request: GenerationRequest) -> bool:
    """Whether a request has pictures that have to be fetched before it is accepted."""
    return any(is_url(each) for each in references(request).values())


def resolved_pictures(request: GenerationRequest, given: Mapping[str, Given]) -> dict[str, Any]:
    """The fields of a resolved request that name pictures, by the ids of their uploads."""
    controls = [
        each.model_copy(update={"image": given[picture_field(index)].id})
        for index, each in enumerate(request.controls)
    ]
    ids: dict[str, Any] = {field: given[field].id for field in PICTURES if field in given}
    if request.image_prompt is not None:
        update = {"image": given[PICTURE_FIELD].id}
        ids["image_prompt"] = request.image_prompt.model_copy(update=update)
    return ids | {"controls": controls}


def size_of(
    request: GenerationRequest, model: Model, given: Mapping[str, Given]
) -> tuple[int, int]:
    """Width and height asked for; what is left open follows the picture, or is the default.

    An aspect ratio comes first. Without a picture to start from, the first that guides counts. Of
    a picture too large or too small for the model the shape is kept.
    """
    if request.aspect_ratio is not None:
        return _in_ratio(request, model)
    picture = given.get("image") or given.get(picture_field(0))
    if picture is None:
        return (
            model.default_size if request.width is None else request.width,
            model.default_size if request.height is None else request.height,
        )
    if request.width is not None and request.height is not None:
        return request.width, request.height
    if request.width is not None:
        factor = request.width / picture.width
    elif request.height is not None:
        factor = request.height / picture.height
    else:
        factor = _fitting(picture, model)
    width, height = (_side(side * factor, model) for side in (picture.width, picture.height))
    return request.width or width, request.height or height


def _in_ratio(request: GenerationRequest, model: Model) -> tuple[int, int]:
    across, down = map(int, (request.aspect_ratio or "1:1").split(":"))
    if request.width is not None:
        return request.width, request.height or _side(request.width * down / across, model)
    if request.height is not None:
        return _side(request.height * across / down, model), request.height
    unit = model.default_size / math.sqrt(across * down)
    return _side(unit * across, model), _side(unit * down, model)


def _fitting(picture: Given, model: Model) -> float:
    """What a picture has to be enlarged by, if at all, to lie within the model's limits."""
    shrunk = min(1.0, model.max_size / max(picture.width, picture.height))
    return max(shrunk, model.min_size / min(picture.width, picture.height))


def _side(pixels: float, model: Model) -> int:
    multiple = model.size_multiple
    least, most = math.ceil(model.min_size / multiple), math.floor(model.max_size / multiple)
    return min(max(round(pixels / multiple), least), most) * multiple


def method_for(model: Model, width: int, height: int, given: Mapping[str, Given]) -> str:
    """The model's method for such a size; with a picture, the first that can start from one."""
    usual = model.default_method_at(width, height)
    if "image" not in given:
        return usual
    scale = math.sqrt(max(0, width * height)) / model.native_size
    able = [name for name in (usual, *model.methods) if METHODS[name].takes_pictures]
    return next((name for name in able if METHODS[name].draws(scale)), usual)


def strength_of(request: GenerationRequest, given: Mapping[str, Given]) -> float | None:
    """The strength asked for, else the usual one; None where there is no picture to start from."""
    if "image" not in given or request.strength is not None:
        return request.strength
    return DEFAULT_MASK_STRENGTH if "mask" in given else DEFAULT_STRENGTH


def _mask_violations(least: int, most: int) -> Iterator[FieldViolation]:
    """A mask says how far each pixel is drawn anew: by its luminance times its alpha."""
    hint = (
        "white is drawn anew, black and transparent stay; a mask that is transparent where to "
        "draw, as OpenAI's clients make them, goes to /v1/images/edits"
    )
    if most == 0:
        yield FieldViolation("mask", "a mask that keeps everything", hint)
    elif least == 255:
        yield FieldViolation("mask", "a mask that keeps nothing", f"leave it out, or: {hint}")


def input_violations(
    request: ResolvedRequest, model: Model, given: Mapping[str, Given]
) -> Iterator[FieldViolation]:
    """Name what does not go together with the pictures given, or with there being none."""
    image, mask = given.get("image"), given.get("mask")
    if image is None:
        for field, value in (("mask", request.mask), ("strength", request.strength)):
            if value is not None:
                rule = "it needs a picture to work on; give one as image"
                yield FieldViolation(field, repr(value), rule)
        return
    if mask is not None and (mask.width, mask.height) != (image.width, image.height):
        rule = f"it must have the size of image, {image.width} x {image.height} pixels"
        yield FieldViolation("mask", f"a picture of {mask.width} x {mask.height} pixels", rule)
    elif mask is not None:
        yield from _mask_violations(*mask.source.mask_range)
    if request.strength is not None and request.num_inference_steps * request.strength < 1:
        steps = request.num_inference_steps
        rule = f"of {steps} steps it leaves none to run; give {1 / steps:.3g} or more"
        yield FieldViolation("strength", repr(request.strength), rule)
    method = METHODS.get(request.method)
    if method is not None and not method.takes_pictures:
        able = ", ".join(name for name in model.methods if METHODS[name].takes_pictures) or "none"
        rule = (
            "its later passes start from pictures of its own, so it cannot keep to the strength; "
            f"methods of {model.name} that can start from image: {able}"
        )
        yield FieldViolation("method", repr(request.method), rule)
