"""Where things are: the one place that knows the paths clients are sent to.

Behind a proxy that serves this under a path of its own, what clients are sent to begins with that.
"""

from contextvars import ContextVar
from urllib.parse import urlsplit

from starlette.requests import Request

from service.domain.artifacts import TileRef

GENERATIONS = "/v1/generations"
UPLOADS = "/v1/uploads"
EDITS = "/v1/images/edits"
VARIATIONS = "/v1/images/variations"
RECIPES = "/v1/recipes"
PROBLEMS = "/problems"
IIIF = "/iiif"


#: The path that a proxy puts in front of all others, for the request at hand.
prefix: ContextVar[str] = ContextVar("prefix", default="")


def prefix_of(public_url: str) -> str:
    """The path of the URL that clients reach this by, without a slash at its end."""
    return urlsplit(public_url).path.rstrip("/")


def base(request: Request) -> str:
    """What the paths of this module follow in a whole URL: scheme and host, as clients have them.

    The URL that the operator set comes before anything that a request says.
    """
    public = urlsplit(request.app.state.settings.public_url)
    if public.netloc:
        return f"{public.scheme}://{public.netloc}"
    return f"{request.url.scheme}://{request.url.netloc}"


def upload(upload_id: str) -> str:
    """What is known of an uploaded picture."""
    return f"{prefix.get()}{UPLOADS}/{upload_id}"


def generation(generation_id: str) -> str:
    """The record."""
    return f"{prefix.get()}{GENERATIONS}/{generation_id}"


def events(generation_id: str) -> str:
    """The event stream."""
    return f"{generation(generation_id)}/events"


def image(generation_id: str) -> str:
    """The full-size picture."""
    return f"{generation(generation_id)}/image"


def thumbnail(generation_id: str) -> str:
    """The small picture of the whole."""
    return f"{generation(generation_id)}/thumbnail"


def preview(generation_id: str, step: int) -> str:
    """The picture of the latents after `step` steps."""
    return f"{generation(generation_id)}/previews/{step}"


def tiles(generation_id: str) -> str:
    """The Deep Zoom descriptor."""
    return f"{generation(generation_id)}/tiles.dzi"


def iiif(generation_id: str) -> str:
    """The base of the picture as a IIIF image."""
    return f"{prefix.get()}{IIIF}/{generation_id}"


def iiif_info(generation_id: str) -> str:
    """The IIIF image information document."""
    return f"{iiif(generation_id)}/info.json"


def iiif_manifest(generation_id: str | None = None) -> str:
    """The IIIF manifest of the picture, or of several."""
    base = f"{prefix.get()}{IIIF}" if generation_id is None else iiif(generation_id)
    return f"{base}/manifest.json"


def tile(generation_id: str, ref: TileRef) -> str:
    """One tile, where a Deep Zoom viewer looks for it."""
    extension = ref.key.rpartition(".")[2]
    folder = f"{generation(generation_id)}/tiles_files"
    return f"{folder}/{ref.level}/{ref.column}_{ref.row}.{extension}"
