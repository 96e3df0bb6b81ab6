"""Read pictures that strangers send: decoded by one of three loaders, and written anew.

Only what the first bytes name is tried, so none of libvips' other loaders is ever reached. Size and
frames are known from the header, before anything is decoded. What comes out holds pixels alone.
"""

import struct
from collections.abc import Collection, Iterator
from typing import Any

import pyvips

from service.domain.requests.uploads import BadPicture, Picture

#: How each format's files begin: a pattern of bytes by its offset.
_MAGIC: dict[str, dict[int, bytes]] = {
    "png": {0: b"\x89PNG\r\n\x1a\n"},
    "jpeg": {0: b"\xff\xd8\xff"},
    "webp": {0: b"RIFF", 8: b"WEBP"},
}

#: Longest side in pixels; what has enough pixels for this is a ribbon and no picture.
MAX_SIDE = 16384

#: As `service.storage.encode` writes its own.
_PNG_COMPRESSION = 1


class PictureReader:
    """Decodes and cleans pictures within limits.

    Args:
        max_bytes: longest file.
        max_pixels: most pixels.
        formats: those that are taken, of png, jpeg and webp.
    """

    def __init__(self, max_bytes: int, max_pixels: int, formats: Collection[str]) -> None:
        if unknown := set(formats) - set(_MAGIC):
            raise ValueError(
                f"{sorted(unknown)!r} cannot be read; set HIDIFFUSION_API__UPLOAD_FORMATS to some "
                f"of {sorted(_MAGIC)}"
            )
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._formats = tuple(formats)

    def __call__(self, data: bytes, *, ours: bool = False) -> Picture:
        """Decode a file, turn it upright, bring it to sRGB and write it anew.

        Args:
            data: the file.
            ours: whether the service itself made it; its length is no matter then.

        Raises:
            BadPicture: it is no whole, still picture of a known format, or over a limit.
        """
        if len(data) > self._max_bytes and not ours:
            raise BadPicture(f"it has {len(data)} bytes; up to {self._max_bytes} are allowed")
        name = self._format_of(data)
        pyvips.cache_set_max(0)  # libvips would keep what nobody asks for again
        try:
            image = _LOADERS[name](data, access="sequential", fail_on="error")
            self._refuse_large(image)
            _refuse_animated(data, name, image)
            image = _plain(_upright(image)).copy_memory()
            mask_range = _mask_range(image)
            png = image.pngsave_buffer(compression=_PNG_COMPRESSION, bitdepth=8, keep="none")
        except pyvips.Error:
            raise BadPicture(f"it is a broken or incomplete {name}; send it whole") from None
        return Picture(bytes(png), image.width, image.height, mask_range)

    def clear_parts(self, picture: Picture) -> Picture | None:
        """A mask that is white where a picture is transparent; None where it nowhere is."""
        image = pyvips.Image.pngload_buffer(picture.png)
        if not image.hasalpha():
            return None
        alpha = image[image.bands - 1]
        if alpha.min() == 255:
            return None
        mask = alpha.invert().copy(interpretation="b-w")
        png = mask.pngsave_buffer(compression=_PNG_COMPRESSION, keep="none")
        return Picture(bytes(png), picture.width, picture.height, _mask_range(mask))

    def _format_of(self, data: bytes) -> str:
        for name in self._formats:
            if all(data[at : at + len(magic)] == magic for at, magic in _MAGIC[name].items()):
                return name
        known = ", ".join(self._formats)
        raise BadPicture(f"it begins like no picture of the formats {known}; send one of these")

    def _refuse_large(self, image: Any) -> None:
        pixels = image.width * image.height
        if pixels > self._max_pixels or max(image.width, image.height) > MAX_SIDE:
            raise BadPicture(
                f"it has {image.width} x {image.height} pixels; up to {self._max_pixels} pixels "
                f"and sides of {MAX_SIDE} are allowed"
            )


_LOADERS = {
    "png": pyvips.Image.pngload_buffer,
    "jpeg": pyvips.Image.jpegload_buffer,
    "webp": pyvips.Image.webpload_buffer,
}


def _refuse_animated(data: bytes, name: str, image: Any) -> None:
    pages = image.get("n-pages") if image.get_typeof("n-pages") else 1
    if pages > 1 or (name == "png" and b"acTL" in _png_chunks(data)):
        raise BadPicture("it is animated; send a single, still picture")


def _png_chunks(data: bytes) -> Iterator[bytes]:
    """Types of a PNG's chunks in front of its pixels; libvips passes over those of animations."""
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            return
        yield kind
        at += 12 + length


def _upright(image: Any) -> Any:
    turned = image.get("orientation") if image.get_typeof("orientation") else 1
    return image.copy_memory().autorot() if turned > 1 else image


def _plain(image: Any) -> Any:
    """The picture in sRGB, 8 bits per channel, three or four bands, of no size on paper."""
    if image.get_typeof("icc-profile-data"):
        try:
            image = image.icc_transform("srgb", embedded=True)
        except pyvips.Error:
            image = image.copy_memory()  # the profile is broken; the pixels need not be
    return image.colourspace("srgb").cast("uchar").copy(xres=1.0, yres=1.0)


def _mask_range(image: Any) -> tuple[int, int]:
    """Least and most of luminance times alpha: of the brightest and the darkest band's, rounded."""
    alpha = image[image.bands - 1] / 255 if image.hasalpha() else 1.0
    product = (image.extract_band(0, n=image.bands - 1) if image.hasalpha() else image) * alpha
    return round(product.min()), round(product.max())
