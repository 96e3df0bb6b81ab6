"""Pixels to PNG, WebP, JPEG and AVIF bytes, by libvips."""

from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from service.domain.artifacts import BIT_DEPTHS, DEFAULT_QUALITY, BitDepth, OutputFormat

#: Level 1 with averaged rows: less than half the time and fewer bytes than libvips' own choice,
#: level 6 without a filter (docs/decisions/0051).
_PNG_COMPRESSION = 1
_PNG_FILTER = "avg"
#: Lossless WebP at its quickest; more effort gains a few percent for several times the time.
_WEBP_LOSSLESS_EFFORT = 0
#: Twelve times quicker than libvips' own choice, 4 (docs/decisions/0015).
_AVIF_EFFORT = 2

#: Metadata that is written, of what an image has.
_KEPT = pyvips.enums.ForeignKeep.EXIF | pyvips.enums.ForeignKeep.XMP


def encode(
    pixels: NDArray[np.uint8] | NDArray[np.uint16],
    picture_format: OutputFormat,
    *,
    quality: int | None = None,
    bit_depth: BitDepth = 8,
    exif: bytes | None = None,
    xmp: bytes | None = None,
) -> bytes:
    """Encode a picture; the same arguments give the same bytes.

    Args:
        pixels: `[height, width, 3]`, sRGB: uint8 for 8 bits per channel, uint16 for more.
        picture_format: "png" keeps every pixel.
        quality: 1 to 100. None is lossless WebP, and the default quality of JPEG and AVIF.
        bit_depth: bits per channel in the file.
        exif: goes into the file, when given; not for PNG, whose text is in chunks of its own.
        xmp: goes into the file likewise.

    Raises:
        ValueError: `pixels` has another shape or type, or the format does not hold `bit_depth`.
    """
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != dtype:
        raise ValueError(
            f"pixels have shape {pixels.shape!r} and type {pixels.dtype}; "
            f"pass [height, width, 3], {np.dtype(dtype).name} for {bit_depth!r} bits"
        )
    if bit_depth not in BIT_DEPTHS[picture_format]:
        raise ValueError(
            f"{picture_format} does not hold {bit_depth!r} bits per channel; "
            f"use one of {BIT_DEPTHS[picture_format]}"
        )
    image = _image(pixels)
    for field, data in (("exif-data", exif), ("xmp-data", xmp)):
        if data is not None:
            image.set_type(pyvips.GValue.blob_type, field, data)
    return _save(image, picture_format, quality, bit_depth)


def convert(
    data: bytes, picture_format: OutputFormat, box: tuple[int, int, int, int] | None = None
) -> bytes:
    """Encode a picture, or a part of it, in another format, 8 bits per channel.

    PNG and JPEG are read and written in strips, so that a large picture needs little memory. What
    the file says of itself in EXIF and XMP is kept.

    Args:
        data: the encoded picture.
        picture_format: the format to write; WebP is lossless, JPEG and AVIF at their default.
        box: left, top, width and height of the part, in pixels; None for all of it.
    """
    pyvips.cache_set_max(0)  # libvips would keep what is not asked for again
    image = pyvips.Image.new_from_buffer(data, "", access="sequential").colourspace("srgb")
    return _save(image if box is None else image.crop(*box), picture_format, None, 8)


def _image(pixels: NDArray[Any]) -> Any:
    height, width, bands = pixels.shape
    data = np.ascontiguousarray(pixels).data
    kind, colours = ("uchar", "srgb") if pixels.dtype == np.uint8 else ("ushort", "rgb16")
    image = pyvips.Image.new_from_memory(data, width, height, bands, kind)
    return image.copy(interpretation=colours)


def _save(
    image: Any, picture_format: OutputFormat, quality: int | None, bit_depth: BitDepth
) -> bytes:
    lossy = quality or DEFAULT_QUALITY.get(picture_format)
    match picture_format:
        case "png":
            encoded = image.pngsave_buffer(
                compression=_PNG_COMPRESSION, filter=_PNG_FILTER, bitdepth=bit_depth, keep="none"
            )
        case "webp" if quality is None:
            encoded = image.webpsave_buffer(lossless=True, effort=_WEBP_LOSSLESS_EFFORT, keep=_KEPT)
        case "webp":
            encoded = image.webpsave_buffer(Q=quality, keep=_KEPT)
        case "jpeg":
            encoded = image.jpegsave_buffer(Q=lossy, subsample_mode="off", keep=_KEPT)
        case "avif":
            encoded = image.heifsave_buffer(
                compression="av1",
                Q=lossy,
                bitdepth=bit_depth,
                effort=_AVIF_EFFORT,
                subsample_mode="off",
                keep=_KEPT,
            )
    return bytes(encoded)
