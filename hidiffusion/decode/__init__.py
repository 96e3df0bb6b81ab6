"""Decoding and encoding of pictures of any size: exact, tile by tile, in bounded memory."""

from hidiffusion.decode.encode import encode_tiles
from hidiffusion.decode.errors import NonFiniteError, UnsupportedAutoencoderError
from hidiffusion.decode.preview import (
    PreviewFactors,
    fit_preview,
    known_preview,
    latents_to_rgb,
    scale,
    unscale,
)
from hidiffusion.decode.streaming import DecodedTile, decode_tiles

__all__ = [
    "DecodedTile",
    "NonFiniteError",
    "PreviewFactors",
    "UnsupportedAutoencoderError",
    "decode_tiles",
    "encode_tiles",
    "fit_preview",
    "known_preview",
    "latents_to_rgb",
    "scale",
    "unscale",
]
