"""By when the message of each call has to be there."""

#: Bytes of a message that give it one second more.
_BYTES_A_SECOND = 16 * 1024


class Messages:
    """Calls of one connection that have begun and whose message is not there yet.

    Args:
        seconds: how long a message may take; each 16 KiB of it give it one more.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[int, float] = {}

    def begin(self, stream: int, now: float) -> None:
        """A call begins on this stream, and its message will come."""
        self._due[stream] = now + self._seconds

    def come(self, stream: int, length: int) -> None:
        """So many bytes of it come."""
        if stream in self._due:
            self._due[stream] += length / _BYTES_A_SECOND

    def end(self, stream: int) -> None:
        """It is there, or nobody wants it any more."""
        self._due.pop(stream, None)

    def excuse(self, until: float) -> None:
        """None is late before this time."""
        self._due = {stream: max(due, until) for stream, due in self._due.items()}

    def late(self, now: float) -> list[int]:
        """The streams whose message ought to be there."""
        return [stream for stream, due in self._due.items() if due <= now]

    @property
    def next_due(self) -> float | None:
        """When the next one has to be there, if there is any."""
        return min(self._due.values(), default=None)
