"""Pixels to PNG, WebP and JPEG bytes, by libvips."""

import struct
import zlib
from collections.abc import Mapping

import numpy as np
import pyvips
from numpy.typing import NDArray

from service.domain.artifacts import TileFormat

#: Level 1 with averaged rows: less than half the time and fewer bytes than libvips' own choice,
#: level 6 without a filter (docs/decisions/0051).
_PNG_COMPRESSION = 1
_PNG_FILTER = "avg"
_WEBP_QUALITY = 92
_JPEG_QUALITY = 92

#: Length of the PNG signature and of the header chunk that must follow it; text goes behind.
_PNG_HEAD_BYTES = 8 + 25


def encode(pixels: NDArray[np.uint8], picture_format: TileFormat) -> bytes:
    """Encode a picture; the same pixels give the same bytes.

    Args:
        pixels: `[height, width, 3]`, uint8, sRGB.
        picture_format: "png" keeps every pixel; "webp" and "jpeg" are lossy.

    Raises:
        ValueError: `pixels` has another shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"pixels have shape {pixels.shape!r} and type {pixels.dtype}; "
            "pass [height, width, 3], uint8"
        )
    height, width, bands = pixels.shape
    data = np.ascontiguousarray(pixels).data
    image = pyvips.Image.new_from_memory(data, width, height, bands, "uchar")
    image = image.copy(interpretation="srgb")
    match picture_format:
        case "png":
            encoded = image.pngsave_buffer(
                compression=_PNG_COMPRESSION, filter=_PNG_FILTER, keep="none"
            )
        case "webp":
            encoded = image.webpsave_buffer(Q=_WEBP_QUALITY, keep="none")
        case "jpeg":
            encoded = image.jpegsave_buffer(Q=_JPEG_QUALITY, subsample_mode="off", keep="none")
    return bytes(encoded)


def with_text(png: bytes, text: Mapping[str, str]) -> bytes:
    """Insert `text` into a PNG as international text chunks (`iTXt`), which are UTF-8.

    Args:
        png: an encoded picture.
        text: keyword to value; keywords of 1 to 79 Latin-1 characters.
    """
    chunks = b"".join(_text_chunk(keyword, value) for keyword, value in text.items())
    return png[:_PNG_HEAD_BYTES] + chunks + png[_PNG_HEAD_BYTES:]


def _text_chunk(keyword: str, value: str) -> bytes:
    if not 1 <= len(keyword) <= 79:
        raise ValueError(f"the keyword {keyword!r} of a PNG text chunk has not 1 to 79 characters")
    # After the keyword: not compressed, method 0, no language tag, no translated keyword.
    body = b"iTXt" + keyword.encode("latin-1") + b"\0\0\0\0\0" + value.encode()
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
