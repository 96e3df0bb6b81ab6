"""Pictures are brought to their end beside the next one's computing."""

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextvars import copy_context

#: How often somebody who waits for the picture before looks whether he is still wanted.
_LOOK_SECONDS = 0.25


class Finishing:
    """Runs work in two parts: the first on the caller's thread, the second on a thread of its own.

    A piece of work is a generator that yields once, where it needs the device no more; before, it
    calls `wait_for_room`. So no more than one is in its second part, and the memory that pictures
    take on the host has a bound: one that is drawn, and one that is encoded and stored.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="finish")
        self._under_way: Future[None] | None = None

    def run(self, work: Generator[None]) -> None:
        """Return once `work` needs the device no more; the rest follows.

        Both parts have the context that the caller has now: its trace, and what its logs say.
        """
        context, over = copy_context(), object()
        if context.run(next, work, over) is not over:
            self._under_way = self._pool.submit(context.run, _exhaust, work)

    def wait_for_room(self, alive: Callable[[], None] = lambda: None) -> None:
        """Return once nothing is in its second part.

        Args:
            alive: called several times a second; may raise to wait no longer.

        Raises:
            Exception: what the second part raised.
        """
        while self._under_way is not None:
            try:
                self._under_way.result(_LOOK_SECONDS)
            except NotYet:
                alive()
            else:
                self._under_way = None


def _exhaust(work: Generator[None]) -> None:
    for _ in work:
        pass
