"""Pictures are brought to their end beside the next one's computing."""

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context

#: How often somebody who waits for the picture before looks whether he is still wanted.
_LOOK_SECONDS = 0.25


class Finishing:
    """Runs work in two parts: the first on the caller's thread, the second on a thread of its own.

    A piece of work is a generator that yields once, where it needs the device no more; before, it
    calls `wait_for_room`. So no more than one is in its second part, and the memory that pictures
    take on the host has a bound: one that is drawn, and one that is encoded and stored.

    Args:
        on_failure: called, on any thread, when a second part raised; who waits next gets that.
    """

    def __init__(self, on_failure: Callable[[], None] = lambda: None) -> None:
        self._on_failure = on_failure
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="finish")
        self._under_way: Future[None] | None = None

    def run(self, work: Generator[None]) -> None:
        """Return once `work` needs the device no more; the rest follows.

        Both parts have the context that the caller has now: its trace, and what its logs say.
        """
        context, over = copy_context(), object()
        if context.run(next, work, over) is not over:
            self._under_way = self._pool.submit(context.run, _exhaust, work)
            self._under_way.add_done_callback(self._look_at)

    def _look_at(self, done: Future[None]) -> None:
        if done.exception() is not None:
            self._on_failure()

    def wait_for_room(self, alive: Callable[[], None] = lambda: None) -> None:
        """Return once nothing is in its second part.

        Args:
            alive: called several times a second; may raise to wait no longer.

        Raises:
            BaseException: what the second part raised.
        """
        while (under_way := self._under_way) is not None:
            if under_way in wait([under_way], _LOOK_SECONDS).done:
                self._under_way = None
                under_way.result()
            else:
                alive()


def _exhaust(work: Generator[None]) -> None:
    for _ in work:
        pass
