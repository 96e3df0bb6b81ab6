"""Whether requests can be accepted: cheap to ask, however often and by however many it is asked."""

import logging
import threading
import time
from collections.abc import Callable

from service.domain.errors import ServiceError, StoreError, Unavailable

_log = logging.getLogger(__name__)

#: An answer is good for this long; whoever balances load asks every few seconds.
FRESH_SECONDS = 3.0

#: How long a process that starts waits for what it needs, which may be starting as well.
START_SECONDS = 30.0

_POLL_SECONDS = 0.5

#: Writes a little somewhere; raises `Unavailable` or `StoreError` when that is not taken.
Probe = Callable[[], None]


class Readiness:
    """Writes to everything that acceptance writes to, once for all who ask within some seconds.

    While one caller waits for a dependency that hangs, the others get the last answer.
    """

    def __init__(self, *probes: Probe) -> None:
        """Look by means of these."""
        self._probes = probes
        self._lock = threading.Lock()
        self._asked = False
        self._good_until = 0.0
        self._trouble: Unavailable | None = None

    def check(self) -> None:
        """Return when every probe is taken; raise `Unavailable` otherwise."""
        if time.monotonic() >= self._good_until and self._lock.acquire(blocking=not self._asked):
            try:
                self._trouble = self._look()
                self._good_until = time.monotonic() + FRESH_SECONDS
                self._asked = True
            finally:
                self._lock.release()
        if self._trouble is not None:
            raise self._trouble

    def _look(self) -> Unavailable | None:
        try:
            for probe in self._probes:
                probe()
        except Unavailable as error:
            return error
        except StoreError as error:
            return Unavailable("store", error.detail)
        return None


def wait_for(*probes: Probe) -> None:
    """Return once every probe is taken.

    Raises:
        ServiceError: one was not, for `START_SECONDS`; it says why.
    """
    deadline = time.monotonic() + START_SECONDS
    for probe in probes:
        told = False
        while True:
            try:
                probe()
                break
            except ServiceError as error:
                if time.monotonic() > deadline:
                    raise
                if not told:
                    _log.warning("waiting for at most %g s: %s", START_SECONDS, error)
                told = True
            time.sleep(_POLL_SECONDS)
