"""IIIF Presentation 3.0: generations as a manifest, a canvas each; pure data, like `iiif`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.application.generations.query import Tiling
from service.application.pictures.iiif import image_information
from service.domain.generations.generation import Generation

CONTEXT = "http://iiif.io/api/presentation/3/context.json"

#: Sides of thumbnails, in pixels, at most: viewers show them in strips.
_THUMBNAIL_SIDE = 512

#: What every picture is; the term is IPTC's digital source type, as in the files.
_MADE = "Made by a model (trainedAlgorithmicMedia)"


@dataclass(frozen=True)
class Shown:
    """A generation, its tiles, and the address of its IIIF image."""

    generation: Generation
    tiling: Tiling
    uri: str

    @property
    def title(self) -> str:
        """The prompt, unless what is asked for is to stay out of files."""
        request = self.generation.request
        return request.prompt if request.metadata else self.generation.id


def manifest(shown: Sequence[Shown], uri: str) -> dict[str, Any]:
    """The manifest (section 5.2 of the specification) at `uri`: a canvas for each of `shown`."""
    first = shown[0]
    several = f"{len(shown)} pictures"
    return {
        "@context": CONTEXT,
        "id": uri,
        "type": "Manifest",
        "label": _text(first.title if len(shown) == 1 else several),
        "requiredStatement": {"label": _english("Source"), "value": _english(_MADE)},
        "thumbnail": [_thumbnail(first)],
        "items": [_canvas(each) for each in shown],
    }


def _canvas(shown: Shown) -> dict[str, Any]:
    canvas = f"{shown.uri}/canvas"
    sides = {"width": shown.tiling.width, "height": shown.tiling.height}
    painting = {
        "id": f"{canvas}/painting",
        "type": "Annotation",
        "motivation": "painting",
        "body": _image(shown, "max") | sides,
        "target": canvas,
    }
    return {
        "id": canvas,
        "type": "Canvas",
        **sides,
        "label": _text(shown.title),
        "metadata": _recipe(shown.generation),
        "thumbnail": [_thumbnail(shown)],
        "items": [{"id": f"{canvas}/page", "type": "AnnotationPage", "items": [painting]}],
    }


def _image(shown: Shown, size: str) -> dict[str, Any]:
    service = {"id": shown.uri, "type": "ImageService3", "profile": "level0"}
    return {
        "id": f"{shown.uri}/full/{size}/0/default.jpg",
        "type": "Image",
        "format": "image/jpeg",
        "service": [service],
    }


def _thumbnail(shown: Shown) -> dict[str, Any]:
    sizes = image_information(shown.tiling, shown.uri)["sizes"]
    small = [size for size in sizes if max(size.values()) <= _THUMBNAIL_SIDE]
    sides: dict[str, int] = max(
        small or sizes, key=lambda size: size["width"] if small else -size["width"]
    )
    return _image(shown, f"{sides['width']},{sides['height']}") | sides


def _recipe(generation: Generation) -> list[dict[str, Any]]:
    request = generation.request
    if not request.metadata:
        return []
    facts = {
        "Model": request.model,
        "Method": request.method,
        "Steps": request.num_inference_steps,
        "Guidance": request.guidance_scale,
        "Scheduler": request.scheduler,
        "Seed": request.seed,
    }
    return [{"label": _english(name), "value": _text(str(fact))} for name, fact in facts.items()]


def _text(said: str) -> dict[str, list[str]]:
    return {"none": [said]}


def _english(said: str) -> dict[str, list[str]]:
    return {"en": [said]}
