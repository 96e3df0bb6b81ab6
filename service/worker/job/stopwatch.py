"""How long each phase of an attempt took."""

import contextlib
import time
from collections.abc import Iterator

from service import tracing


class Stopwatch:
    """Adds up seconds by phase.

    Attributes:
        seconds: phase to seconds, rounded to milliseconds.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside the block as part of phase `name`, and trace it."""
        begin = time.perf_counter()
        try:
            with tracing.span(name):
                yield
        finally:
            spent = time.perf_counter() - begin
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)
