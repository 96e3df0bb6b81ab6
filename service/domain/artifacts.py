"""What a generation leaves in the object store, and under which keys."""

import re
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

OutputFormat = Literal["png", "webp", "jpeg", "avif"]
TileFormat = Literal["png", "webp", "jpeg"]
BitDepth = Literal[8, 10, 12, 16]

#: File extension and media type of each picture format that is written.
EXTENSIONS: dict[str, str] = {"png": "png", "webp": "webp", "jpeg": "jpg", "avif": "avif"}
MEDIA_TYPES: dict[str, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "jpeg": "image/jpeg",
    "avif": "image/avif",
}

#: Bits per channel that each format can hold.
BIT_DEPTHS: dict[str, tuple[BitDepth, ...]] = {
    "png": (8, 16),
    "webp": (8,),
    "jpeg": (8,),
    "avif": (8, 10, 12),
}

#: Quality of the lossy formats when none is asked for; PNG keeps every pixel and has none.
DEFAULT_QUALITY: dict[str, int] = {"webp": 92, "jpeg": 92, "avif": 80}

#: Longest side in pixels, of the formats that have a limit within reach.
MAX_SIDES: dict[str, int] = {"webp": 16383}

#: Begin of the keys of all that generations leave.
GENERATIONS_PREFIX = "generations/"

#: Characters of an id, from its end, that spread keys begin with: 1,024 beginnings.
SHARD_CHARACTERS = 2

_KEY = re.compile(
    rf"{GENERATIONS_PREFIX}(?:(?P<shard>[^/]{{{SHARD_CHARACTERS}}})/)?(?P<id>[^/]+)/(?P<attempt>\d+)/."
)

#: Checkpoints are nothing that anybody could show.
CHECKPOINT_MEDIA_TYPE = "application/octet-stream"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ArtifactRef(_Frozen):
    """One stored object: its key, media type, length in bytes and SHA-256 (hex)."""

    key: str
    media_type: str
    bytes: int
    sha256: str


class TileRef(_Frozen):
    """One tile of the pyramid; `left`, `top`, `width`, `height` in pixels of its own level.

    The rectangle includes the overlap, so tiles of one level can be pasted over each other.
    """

    level: int
    column: int
    row: int
    left: int
    top: int
    width: int
    height: int
    key: str


class PyramidLevel(_Frozen):
    """One level of a Deep Zoom pyramid; level 0 is a single pixel, the last is full size."""

    level: int
    width: int
    height: int
    columns: int
    rows: int


class Pyramid(_Frozen):
    """Geometry of a Deep Zoom pyramid; `tile_size` and `overlap` in pixels."""

    tile_size: int
    overlap: int
    format: TileFormat
    levels: tuple[PyramidLevel, ...]


class Manifest(_Frozen):
    """The table of contents of a finished result, written last: it exists, so all else does.

    `recipe` is the complete request as it ran, the versions of the libraries that ran it, and the
    times it took: enough to make the same picture again. Without tiles there is no `pyramid`.
    `stored_bytes` is the size of the image, the thumbnail and all tiles together.
    """

    generation_id: str
    attempt: int
    width: int
    height: int
    image: ArtifactRef
    thumbnail: ArtifactRef
    pyramid: Pyramid | None = None
    recipe: dict[str, Any]
    stored_bytes: int = 0
    created_at: datetime


class ArtifactKeys:
    """Object keys of one attempt at one generation.

    The attempt number is part of every key, so an attempt that was given up for dead and comes
    back can never overwrite what its successor wrote.

    Ids begin with the time, so plain keys are written one behind the other, all of them at the end
    of a bucket's index. Spread ones begin with the last characters of the id, which are random.

    Args:
        generation_id: whose.
        attempt: its number.
        spread: whether the keys are spread over the bucket's index.
    """

    def __init__(self, generation_id: str, attempt: int, *, spread: bool = False) -> None:
        shard = f"{generation_id[-SHARD_CHARACTERS:]}/" if spread else ""
        self.generation_prefix = f"{GENERATIONS_PREFIX}{shard}{generation_id}/"
        self.prefix = f"{self.generation_prefix}{attempt}/"

    @classmethod
    def beside(cls, key: str) -> "ArtifactKeys":
        """The keys of the attempt that left the object under `key`.

        Raises:
            ValueError: no attempt did.
        """
        found = _KEY.match(key)
        if found is None:
            raise ValueError(f"{key!r} is no key of an attempt")
        return cls(found["id"], int(found["attempt"]), spread=found["shard"] is not None)

    @classmethod
    def either(cls, generation_id: str, attempt: int) -> "tuple[ArtifactKeys, ArtifactKeys]":
        """The keys that an attempt may have written under, whatever its worker was told."""
        return cls(generation_id, attempt), cls(generation_id, attempt, spread=True)

    @property
    def manifest(self) -> str:
        """The JSON table of contents."""
        return f"{self.prefix}manifest.json"

    @property
    def thumbnail(self) -> str:
        """A small JPEG of the whole picture."""
        return f"{self.prefix}thumbnail.jpg"

    @property
    def checkpoint(self) -> str:
        """The newest state that a later attempt could go on from."""
        return f"{self.prefix}checkpoint.safetensors"

    @property
    def native(self) -> str:
        """The picture that was drawn, where it was enlarged afterwards."""
        return f"{self.prefix}native.png"

    def image(self, image_format: str) -> str:
        """The full-size picture."""
        return f"{self.prefix}image.{EXTENSIONS[image_format]}"

    def preview(self, step: int) -> str:
        """A small JPEG of the latents after `step` steps."""
        return f"{self.prefix}preview-{step:04d}.jpg"

    def tile(self, level: int, column: int, row: int, tile_format: str) -> str:
        """One tile of the pyramid, named as Deep Zoom names it."""
        return f"{self.prefix}tiles_files/{level}/{column}_{row}.{EXTENSIONS[tile_format]}"


def places_of(name: str) -> tuple[str, ...]:
    """Where objects may be that are known by a plain key or prefix: there, and spread."""
    if not name.startswith(GENERATIONS_PREFIX):
        return (name,)
    rest = name.removeprefix(GENERATIONS_PREFIX)
    shard = rest.partition("/")[0][-SHARD_CHARACTERS:]
    return name, f"{GENERATIONS_PREFIX}{shard}/{rest}"


def attempt_of(key: str) -> tuple[str, int] | None:
    """The id and the number of the attempt that left the object under `key`; None: none did."""
    found = _KEY.match(key)
    return found and (found["id"], int(found["attempt"]))
