"""How many frames an address may send, so that its frames leave others the loop."""

import asyncio
from collections.abc import Callable

#: Frames a second of one address, and seconds of them that may come at once. A call has about five,
#: a frame of a message up to 16 KiB; each takes about 2 us of the loop.
FRAMES_A_SECOND = 20_000
_BURST_SECONDS = 0.1

#: Frames looked at before others have the loop, and seconds after which more may be.
SLICE = 500
PAUSE_SECONDS = SLICE / FRAMES_A_SECOND


class Pace:
    """Counts frames by address; a proxy's connections have a pace each, by their slices alone.

    Args:
        is_proxy: whether an address stands for many clients.
    """

    def __init__(self, is_proxy: Callable[[str], bool]) -> None:
        self._is_proxy = is_proxy
        self._busy_until: dict[str, float] = {}

    def room(self, address: str) -> int:
        """Frames of this address that may be looked at now."""
        if self._is_proxy(address):
            return SLICE
        now = asyncio.get_running_loop().time()
        ahead = self._busy_until.get(address, now) - now
        return min(SLICE, max(0, int((_BURST_SECONDS - ahead) * FRAMES_A_SECOND)))

    def count(self, address: str, frames: int) -> None:
        """So many were."""
        now = asyncio.get_running_loop().time()
        before = self._busy_until.get(address, now)
        self._busy_until[address] = max(now, before) + frames / FRAMES_A_SECOND

    def leave(self, address: str) -> None:
        """A connection of this address has ended: forget what it sent, in a moment."""
        asyncio.get_running_loop().call_later(2 * _BURST_SECONDS, self._forget, address)

    def _forget(self, address: str) -> None:
        if self._busy_until.get(address, 0.0) <= asyncio.get_running_loop().time():
            self._busy_until.pop(address, None)
