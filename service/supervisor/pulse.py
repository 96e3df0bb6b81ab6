"""A worker's heartbeat: its report, and nothing whose cost depends on others."""

import logging
import time
from collections.abc import Callable

import redis

from service.application.ports import WorkerInfo
from service.domain.errors import Unavailable
from service.records.attempts import Attempts
from service.settings import WorkerSettings

_log = logging.getLogger(__name__)


class Pulse:
    """Beats at intervals, and at once after something worth telling.

    Args:
        attempts: where reports go.
        settings: the interval, and how long a report is good for.
        describe: what to report.
        register: renews whatever else says that the worker lives.
    """

    def __init__(
        self,
        attempts: Attempts,
        settings: WorkerSettings,
        describe: Callable[[], WorkerInfo],
        register: Callable[[], None],
    ) -> None:
        self._attempts = attempts
        self._settings = settings
        self._describe = describe
        self._register = register
        self._beat_at = 0.0

    def soon(self) -> None:
        """Beat at the next opportunity."""
        self._beat_at = 0.0

    def beat_when_due(self) -> None:
        """Beat, if it is time; without Redis, try again at the next interval."""
        if time.monotonic() < self._beat_at:
            return
        self._beat_at = time.monotonic() + self._settings.heartbeat_seconds
        try:
            self._attempts.report(self._describe(), self._settings.heartbeat_ttl_seconds)
            self._register()
        except (Unavailable, redis.RedisError) as error:
            _log.warning("no heartbeat: %s", error)
