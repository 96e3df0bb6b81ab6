"""Notice a pipeline process that lives and does nothing.

There are two ways to hang. A process that is stopped, or whose threads wait for one lock, sends no
sign of life any more, which it otherwise does every few seconds. One whose device hangs still
does, but tells of no step and no tile: how long that may take is measured, for each model, size
and method, from the attempts that succeeded, and until one has, it is what a cold start may take.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence

from service.channel import Happened, Message
from service.domain.generations.events import Succeeded, WaitingForStore, status_after
from service.domain.generations.generation import Generation
from service.settings import WorkerSettings

#: How much longer than the longest silence of any success a silence may be.
FACTOR = 10.0

#: Kinds of attempts whose silences are remembered.
_REMEMBERED = 1000


class Silences:
    """The longest silence of the attempts that succeeded, by what they drew.

    Args:
        floor_seconds: shortest silence that is held against anybody.
        unknown_seconds: what is allowed while nothing is known.
    """

    def __init__(self, floor_seconds: float, unknown_seconds: float) -> None:
        self._floor = floor_seconds
        self._unknown = unknown_seconds
        self._longest: OrderedDict[tuple[str, int, str], float] = OrderedDict()

    def allowed(self, generation: Generation) -> float:
        """Seconds that an attempt at this may be silent once it has told of anything."""
        known = self._longest.get(_kind(generation))
        return self._unknown if known is None else max(self._floor, FACTOR * known)

    def learn(self, generation: Generation, seconds: float) -> None:
        """An attempt at this succeeded, and was silent for so long at most."""
        kind = _kind(generation)
        self._longest[kind] = max(seconds, self._longest.pop(kind, 0.0))
        while len(self._longest) > _REMEMBERED:
            self._longest.popitem(last=False)


class Watchdog:
    """Watches one batch of a pipeline process, which may be at another one too.

    Args:
        generations: what it draws.
        silences: what is known of such.
        settings: how long a process may send no sign of life.
    """

    def __init__(
        self, generations: Sequence[Generation], silences: Silences, settings: WorkerSettings
    ) -> None:
        self._generations = {one.id: one for one in generations}
        self._ids = frozenset(self._generations)
        self._silences = silences
        self._stall_seconds = settings.stall_seconds
        self._start_seconds = settings.warm_up_seconds
        now = time.monotonic()
        self._heard_at = self._told_at = now
        self._began = self._excused = False
        self._longest = 0.0

    def hear(self, message: Message | None) -> None:
        """Take in what the process says."""
        if message is None:
            return
        now = time.monotonic()
        self._heard_at = now
        if not isinstance(message, Happened):
            return
        if message.generation_id not in self._ids:
            self._told_at = now  # what this one may have waited for
            return
        if self._began:
            self._longest = max(self._longest, now - self._told_at)
        self._began, self._told_at = True, now
        self._excused = isinstance(message.event, WaitingForStore)
        generation = self._generations.get(message.generation_id)
        if generation is not None and status_after(message.event).final:
            del self._generations[generation.id]
            if isinstance(message.event, Succeeded):
                self._silences.learn(generation, self._longest)

    def verdict(self) -> str:
        """Why the process has to be replaced; empty while it does not."""
        now = time.monotonic()
        if now - self._heard_at > self._stall_seconds:
            return f"the pipeline process sent no sign of life for {self._stall_seconds:g} s"
        allowed = self._start_seconds
        if self._began and self._generations:
            allowed = max(self._silences.allowed(one) for one in self._generations.values())
        if now - self._told_at > allowed and not self._excused:
            return f"the pipeline process told of no progress for {allowed:.0f} s"
        return ""


def _kind(generation: Generation) -> tuple[str, int, str]:
    request = generation.request
    return request.model, request.pixels, request.method
