"""JSON with pictures inside, written piece by piece: no process ever holds a picture in base64."""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from pydantic import BaseModel

from service.application.ports import ObjectInfo

#: A part of a document: text as it is, or a stored picture to be written in base64.
Piece = bytes | ObjectInfo

#: Reads bytes of a stored picture, from one offset up to another.
Reader = Callable[[ObjectInfo, int, int], Awaitable[bytes]]

#: A multiple of three, so that pieces of base64 may be joined.
_CHUNK_BYTES = 3 * 1024 * 1024


def embedded(fields: BaseModel, picture: ObjectInfo) -> list[Piece]:
    """`fields` as a JSON object whose member `b64_json` is `picture`."""
    text = fields.model_dump_json(exclude={"b64_json"}, exclude_none=True)
    return [text.removesuffix("}").encode() + b',"b64_json":"', picture, b'"}']


def length(pieces: Sequence[Piece]) -> int:
    """Bytes that `written` makes of `pieces`."""
    return sum(
        len(piece) if isinstance(piece, bytes) else -(-piece.size // 3) * 4 for piece in pieces
    )


async def written(read: Reader, pieces: Sequence[Piece]) -> AsyncIterator[bytes]:
    """The document, reading pictures as it goes."""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        for start in range(0, piece.size, _CHUNK_BYTES):
            end = min(start + _CHUNK_BYTES, piece.size)
            yield base64.b64encode(await read(piece, start, end))
