"""What a picture's file says of how it was made, in the places where other tools look.

Every picture says in XMP that a model made it (IPTC's digital source type). The recipe, when it is
given, goes into text chunks of a PNG, and into EXIF and XMP of the other formats.
"""

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from service.domain.artifacts import BitDepth, OutputFormat
from service.storage.encode import encode

#: IPTC NewsCodes: created by a model that was trained on sampled content.
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

#: Keyword of the PNG chunk that holds XMP (XMP specification part 3, section 1.1.5).
_PNG_XMP = "XML:com.adobe.xmp"

#: Length of the PNG signature and of the header chunk that must follow it; text goes behind.
_PNG_HEAD_BYTES = 8 + 25

#: EXIF 2.32: the sub-directory, the tag UserComment and how its encoding is named.
_EXIF_DIRECTORY = 0x8769
_USER_COMMENT = 0x9286
_UNICODE = b"UNICODE\0"

_XMP = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:hidiffusion="urn:hidiffusion:1.0/">
   <Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>{recipe}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""

#: Characters that JSON may hold as they are, and XML may not hold at all.
_NOT_IN_XML = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}


@dataclass(frozen=True)
class RecipeText:
    """A recipe as a file carries it.

    Attributes:
        parameters: the lines that most image tools read and show.
        recipe: all of it, in JSON.
    """

    parameters: str
    recipe: str


def encode_marked(
    pixels: NDArray[np.uint8] | NDArray[np.uint16],
    picture_format: OutputFormat,
    text: RecipeText | None,
    *,
    quality: int | None = None,
    bit_depth: BitDepth = 8,
) -> bytes:
    """Encode a picture as `encode` does, marked as made by a model.

    Args:
        pixels: as for `encode`.
        picture_format: as for `encode`.
        text: the recipe; None leaves it out.
        quality: as for `encode`.
        bit_depth: as for `encode`.
    """
    options: dict[str, Any] = {"quality": quality, "bit_depth": bit_depth}
    if picture_format == "png":
        chunks = {} if text is None else {"parameters": text.parameters, "hidiffusion": text.recipe}
        data = encode(pixels, picture_format, **options)
        return with_text(data, chunks | {_PNG_XMP: _xmp(None)})
    exif = None if text is None else _exif(text.parameters)
    xmp = _xmp(None if text is None else text.recipe).encode()
    return encode(pixels, picture_format, **options, exif=exif, xmp=xmp)


def with_text(png: bytes, text: Mapping[str, str]) -> bytes:
    """Insert `text` into a PNG as international text chunks (`iTXt`), which are UTF-8.

    Args:
        png: an encoded picture.
        text: keyword to value; keywords of 1 to 79 Latin-1 characters.
    """
    chunks = b"".join(_text_chunk(keyword, value) for keyword, value in text.items())
    return png[:_PNG_HEAD_BYTES] + chunks + png[_PNG_HEAD_BYTES:]


def read_text(png: bytes) -> dict[str, str]:
    """The text of a PNG that stands before its pixels, which are not decoded; the reverse.

    Raises:
        ValueError: it is no PNG, or a broken one.
    """
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
            found = picture.info
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"it is no PNG that can be read: {error}") from None
    return {str(name): str(value) for name, value in found.items() if isinstance(value, str)}


def _text_chunk(keyword: str, value: str) -> bytes:
    if not 1 <= len(keyword) <= 79:
        raise ValueError(f"the keyword {keyword!r} of a PNG text chunk has not 1 to 79 characters")
    # After the keyword: not compressed, method 0, no language tag, no translated keyword.
    body = b"iTXt" + keyword.encode("latin-1") + b"\0\0\0\0\0" + value.encode()
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _exif(comment: str) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(_EXIF_DIRECTORY)[_USER_COMMENT] = _UNICODE + comment.encode("utf-16-be")
    return exif.tobytes()


def _xmp(recipe: str | None) -> str:
    element = ""
    if recipe is not None:
        text = escape(recipe.translate(_NOT_IN_XML))
        element = f"\n   <hidiffusion:recipe>{text}</hidiffusion:recipe>"
    return _XMP.format(source=DIGITAL_SOURCE_TYPE, recipe=element)
