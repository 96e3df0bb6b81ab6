"""IIIF Image API 3.0, level 0, over the tiles of a Deep Zoom pyramid: pure arithmetic.

Both cut the picture on the same grid, and each level is half the next, rounded up. A Deep Zoom tile
also shows `overlap` pixels of its neighbours, an IIIF tile does not: it is a part of the other.
"""

import re
from dataclasses import dataclass
from typing import Any

from service.application.generations.query import Tiling
from service.domain.artifacts import EXTENSIONS

CONTEXT = "http://iiif.io/api/image/3/context.json"
LEVEL = "http://iiif.io/api/image/3/level0.json"

#: Formats of tiles by extension; level 0 demands `jpg`.
TILE_EXTENSIONS = ("jpg", "png", "webp")

_REGION = re.compile(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})")
_SIZE = re.compile(r"(\d{1,6}),(\d{1,6})")


@dataclass(frozen=True)
class TilePart:
    """A stored tile and the rectangle in it that was asked for, in pixels.

    `whole` says that the rectangle is all of the tile.
    """

    level: int
    column: int
    row: int
    left: int
    top: int
    width: int
    height: int
    whole: bool


def image_information(tiling: Tiling, uri: str) -> dict[str, Any]:
    """The information document (section 5 of the specification) of the image at `uri`."""
    levels = _levels(tiling)
    tiled = sum(max(size) > tiling.tile_size for size in levels)
    return {
        "@context": CONTEXT,
        "id": uri,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level0",
        "width": tiling.width,
        "height": tiling.height,
        "sizes": [{"width": width, "height": height} for width, height in reversed(levels[tiled:])],
        "tiles": [
            {"width": tiling.tile_size, "scaleFactors": [2**power for power in range(tiled + 1)]}
        ],
        "preferredFormats": [EXTENSIONS[tiling.format]],
        "extraFormats": ["png", "webp"],
        "extraFeatures": ["baseUriRedirect", "cors", "jsonldMediaType", "profileLinkHeader"],
    }


def is_everything(tiling: Tiling, region: str, size: str) -> bool:
    """Whether the full picture at its full size is asked for."""
    whole = (0, 0, tiling.width, tiling.height)
    return _region(tiling, region) == whole and _size(size, whole) == whole[2:]


def tile_part(tiling: Tiling, region: str, size: str) -> TilePart | None:
    """The part of a stored tile that shows `region` at `size`; None when no single tile does."""
    box = _region(tiling, region)
    if box is None:
        return None
    last = len(_levels(tiling)) - 1
    left, top, width, height = box
    for power in range(last + 1):
        factor = 2**power
        step = tiling.tile_size * factor
        cell = (min(step, tiling.width - left), min(step, tiling.height - top))
        scaled = (-(-width // factor), -(-height // factor))
        if left % step or top % step or cell != (width, height) or _size(size, box) != scaled:
            continue
        column, row = left // step, top // step
        alone = step >= tiling.width and step >= tiling.height
        return TilePart(
            level=last - power,
            column=column,
            row=row,
            left=min(column, 1) * tiling.overlap,
            top=min(row, 1) * tiling.overlap,
            width=scaled[0],
            height=scaled[1],
            whole=alone or tiling.overlap == 0,
        )
    return None


def _levels(tiling: Tiling) -> list[tuple[int, int]]:
    """Width and height of each level, from full size down to one pixel."""
    powers = range((max(tiling.width, tiling.height) - 1).bit_length() + 1)
    return [(-(-tiling.width // 2**power), -(-tiling.height // 2**power)) for power in powers]


def _region(tiling: Tiling, text: str) -> tuple[int, int, int, int] | None:
    """Left, top, width and height; None for what level 0 need not know, or outside."""
    if text == "full":
        return 0, 0, tiling.width, tiling.height
    if not (found := _REGION.fullmatch(text)):
        return None
    left, top, width, height = (int(number) for number in found.groups())
    inside = left < tiling.width and top < tiling.height
    return (left, top, width, height) if inside else None


def _size(text: str, region: tuple[int, int, int, int]) -> tuple[int, int] | None:
    if text == "max":
        return region[2:]
    found = _SIZE.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else None
