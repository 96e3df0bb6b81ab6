"""Server-sent events out of bytes as they arrive (WHATWG HTML, section 9.2.6)."""

import codecs
import re
from dataclasses import dataclass

_LINE_END = re.compile("\r\n|\n|\r")


@dataclass(frozen=True)
class ServerSentEvent:
    """One event: the last id that the stream gave, and its data."""

    id: str
    data: str


class EventParser:
    """Turns the bytes of one connection into events, wherever they are cut."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._id = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that are complete with this chunk; one without data is none."""
        text = self._rest + self._decoder.decode(chunk)
        # A carriage return at the end may be the first half of a line end.
        whole = text[:-1] if text.endswith("\r") else text
        *lines, rest = _LINE_END.split(whole)
        self._rest = rest + text[len(whole) :]
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: str) -> ServerSentEvent | None:
        if not line:
            data, self._data = self._data, []
            return ServerSentEvent(self._id, "\n".join(data)) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        return None
