"""A store that is down is waited for: what is finished is not computed again."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from service.application.ports import ObjectInfo, ObjectStore
from service.domain.errors import StoreError, Unavailable
from service.domain.generations.events import WaitingForStore
from service.worker.job.attempt import Attempt
from service.worker.job.failures import store_reason

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between tries: half of a second doubled each time up to the longest, of which a random
#: half is taken off, so that the workers of a store that comes back do not all come at once.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0

#: How often somebody who waits looks whether the attempt is still wanted.
_LOOK_SECONDS = 0.25


class PatientStore(ObjectStore):
    """The store of one attempt: `put` and `get` wait while the store fails or refuses.

    The attempt tells when the waiting begins. It ends with the store's error after the time limit,
    or when the attempt is cancelled or suspended.

    Args:
        store: what is waited for.
        attempt: tells of the waiting, and whether it is still wanted.
        limit_seconds: longest wait.
    """

    def __init__(self, store: ObjectStore, attempt: Attempt, limit_seconds: float) -> None:
        self._store = store
        self._attempt = attempt
        self._limit = limit_seconds
        self._waiting = 0
        self._counting = threading.Lock()

    def put(self, key: str, data: bytes, media_type: str) -> ObjectInfo:
        """Store an object, sooner or later."""
        return self._patiently(lambda: self._store.put(key, data, media_type))

    def get(self, key: str) -> bytes:
        """Read an object, sooner or later; that there is none is an answer."""
        return self._patiently(lambda: self._store.get(key))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """As the store does."""
        return self._store.get_range(key, start, end)

    def head(self, key: str) -> ObjectInfo:
        """As the store does."""
        return self._store.head(key)

    def keys(self, prefix: str) -> list[str]:
        """As the store does."""
        return self._store.keys(prefix)

    def sizes(self, prefix: str) -> dict[str, int]:
        """As the store does."""
        return self._store.sizes(prefix)

    def delete_prefix(self, prefix: str) -> int:
        """As the store does."""
        return self._store.delete_prefix(prefix)

    def presign(self, key: str, expires_seconds: int) -> str | None:
        """As the store does."""
        return self._store.presign(key, expires_seconds)

    def ping(self) -> None:
        """As the store does."""
        self._store.ping()

    def _patiently(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except (Unavailable, StoreError) as error:
            if self._limit <= 0:
                raise
            self._begin_to_wait(error)
        try:
            return self._keep_trying(act, time.monotonic() + self._limit)
        finally:
            with self._counting:
                self._waiting -= 1

    def _begin_to_wait(self, error: Unavailable | StoreError) -> None:
        """Tell it, unless another thread of the attempt waits already."""
        _log.warning("waiting for the store: %s", error)
        with self._counting:
            self._waiting += 1
            if self._waiting == 1:
                self._attempt.tell(WaitingForStore, reason=store_reason(error))

    def _keep_trying(self, act: Callable[[], T], deadline: float) -> T:
        pause = FIRST_PAUSE
        while True:
            wanted = self._sleep(pause * random.uniform(0.5, 1.0))
            try:
                return act()
            except (Unavailable, StoreError) as error:
                if not wanted or time.monotonic() > deadline:
                    raise
                _log.warning("still waiting for the store: %s", error)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _sleep(self, seconds: float) -> bool:
        """Sleep; returns at once, with False, when the attempt is no longer wanted."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._attempt.cancelled() or self._attempt.suspended():
                return False
            time.sleep(min(left, _LOOK_SECONDS))
        return True
