"""Frames of HTTP/2 (RFC 9113, sections 4.1 and 6), as far as who passes them on needs to know."""

import struct

#: What a client's connection begins with, RFC 9113, section 3.4.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: Bytes before the payload of a frame.
HEAD_BYTES = 9

DATA, HEADERS, RST_STREAM, GOAWAY, CONTINUATION = 0x0, 0x1, 0x3, 0x7, 0x9
END_STREAM, END_HEADERS = 0x1, 0x4

#: Codes of errors, RFC 9113, section 7.
CANCEL, ENHANCE_YOUR_CALM = 0x8, 0xB

_HEAD = struct.Struct(">HBBBI")
_STREAM = 0x7FFF_FFFF


def head_at(data: bytes | bytearray, at: int) -> tuple[int, int, int, int]:
    """The head of the frame that begins there: bytes of payload, kind, flags and stream."""
    high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
    return high << 8 | low, kind, flags, stream & _STREAM


def frame(kind: int, stream: int, payload: bytes) -> bytes:
    """A frame without flags; `payload` has fewer than 65,536 bytes."""
    return _HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, 0, stream) + payload


def reset(stream: int, code: int) -> bytes:
    """A frame that ends one stream."""
    return frame(RST_STREAM, stream, struct.pack(">I", code))


def go_away(last: int, code: int, why: str) -> bytes:
    """A frame that ends a connection; streams up to `last` may have been served."""
    return frame(GOAWAY, 0, struct.pack(">II", last, code) + why.encode())
