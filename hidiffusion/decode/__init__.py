"""Decoding and encoding of pictures of any size: exact, tile by tile, in bounded memory."""

from hidiffusion.decode.errors import NonFiniteError, UnsupportedAutoencoderError
from hidiffusion.decode.streaming import DecodedTile, decode_tiles

__all__ = [
    "DecodedTile",
    "NonFiniteError",
    "UnsupportedAutoencoderError",
    "decode_tiles",
]
