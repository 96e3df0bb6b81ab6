"""Begin requests a few at a time, and callers by turns, so that one's flood is not another's wait.

To begin a request takes some milliseconds of the one event loop. A thousand that come at once are
all begun at once by an event loop left to itself, and each step of every one of them stands before
the next step of a newcomer's. Here the thousand stand in a lane of their own, and a newcomer is
next but one.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

#: Requests begun at a time. A newcomer shares the loop with so many, a few milliseconds of each.
AT_ONCE = 16

#: A request that takes longer waits for something, and holds nobody up by that.
SECONDS = 0.1


class Turn:
    """A request's place in its lane, and then among those that are being begun."""

    def __init__(self, turns: "Turns", lane: Hashable, begin: Callable[[], None]) -> None:
        self._turns = turns
        self.lane = lane
        self.begin = begin
        self.timer: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """It answers, waits or is given up: the next may begin. Ending it again does nothing."""
        self._turns.end(self)


class Turns:
    """Whose request is begun next, of one event loop.

    Args:
        at_once: requests being begun at a time.
        seconds: after this long a request counts as begun.
    """

    def __init__(self, at_once: int = AT_ONCE, seconds: float = SECONDS) -> None:
        self._at_once = at_once
        self._seconds = seconds
        self._beginning: set[Turn] = set()
        self._lanes: OrderedDict[Hashable, dict[Turn, None]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Requests that have not been begun."""
        return sum(map(len, self._lanes.values()))

    def ask(self, lane: Hashable, begin: Callable[[], None]) -> Turn:
        """Have `begin` called when it is this request's turn, maybe now.

        Args:
            lane: what is in one lane goes in order; lanes take turns.
            begin: begins the request; it must not raise.
        """
        turn = Turn(self, lane, begin)
        self._lanes.setdefault(lane, {})[turn] = None
        self._go_on()
        return turn

    @asynccontextmanager
    async def taken(self, lane: Hashable) -> AsyncIterator[Turn]:
        """Wait for a turn; it ends with the block, if not before."""
        begun = asyncio.Event()
        turn = self.ask(lane, begun.set)
        try:
            await begun.wait()
            yield turn
        finally:
            turn.end()

    def end(self, turn: Turn) -> None:
        """End a turn that was begun, or give it up."""
        if turn in self._beginning:
            self._beginning.remove(turn)
            if turn.timer is not None:
                turn.timer.cancel()
            self._go_on()
        elif turn in self._lanes.get(turn.lane, ()):
            self._leave(turn)

    def _go_on(self) -> None:
        while self._lanes and len(self._beginning) < self._at_once:
            turn = next(iter(next(iter(self._lanes.values()))))
            self._leave(turn)
            if turn.lane in self._lanes:
                self._lanes.move_to_end(turn.lane)
            self._beginning.add(turn)
            turn.timer = asyncio.get_running_loop().call_later(self._seconds, turn.end)
            turn.begin()

    def _leave(self, turn: Turn) -> None:
        lane = self._lanes[turn.lane]
        del lane[turn]
        if not lane:
            del self._lanes[turn.lane]
