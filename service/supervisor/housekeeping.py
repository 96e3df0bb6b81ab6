"""What is done once for the cluster, in a thread of its own: never in the one that renews leases.

Every worker has such a thread; the one that holds the turn does the work, and keeps the turn for
as long as it lives. What one step does is bounded, and what fails is told of and tried again.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence

import redis

from service.domain.errors import Unavailable
from service.events.connection import TextClient, connect
from service.records.attempts import Attempts
from service.records.keys import HOUSEKEEPER
from service.records.records import RedisRecords
from service.settings import Settings
from service.supervisor.lobby import Lobby
from service.supervisor.recovery import Recovery
from service.supervisor.routing import Rule
from service.supervisor.unplaceable import Unplaceable

_log = logging.getLogger(__name__)

#: Intervals after which a turn that is not renewed is another's.
_INTERVALS = 2.0

#: Take or renew the turn.
#:
#:     KEYS[1] = who has it
#:     ARGV[1] = who asks, ARGV[2] = milliseconds for which it is good
#:
#: Returns 1, or 0 when it is another's.
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class Housekeeping:
    """Runs tasks at intervals while it is this process's turn.

    Args:
        client: a client of its own, for the thread of its own.
        name: who takes the turn.
        seconds: the interval.
        tasks: what is done, each by itself: one that fails stops no other.
    """

    def __init__(
        self, client: TextClient, name: str, seconds: float, tasks: Sequence[Callable[[], None]]
    ) -> None:
        self._hold = client.register_script(_HOLD)
        self._name = name
        self._seconds = seconds
        self._tasks = tasks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the task at hand."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                if self._hold(keys=(HOUSEKEEPER,), args=(self._name, self._turn())):
                    self._do_all()
            except redis.RedisError as error:
                _log.warning("no housekeeping: %s", error)

    def _turn(self) -> int:
        return int(self._seconds * _INTERVALS * 1000)

    def _do_all(self) -> None:
        for task in self._tasks:
            began = time.monotonic()
            try:
                task()
            except (Unavailable, redis.RedisError) as error:
                _log.warning("housekeeping is left for later: %s", error)
            except Exception:  # one task, and one record in it, must not stop the others
                _log.exception("housekeeping failed")
            if time.monotonic() - began > self._seconds:
                _log.warning("housekeeping took %.1f s", time.monotonic() - began)


def housekeeping_of(settings: Settings) -> Housekeeping:
    """What one worker does for all of them, with connections of its own."""
    worker = settings.worker
    records = RedisRecords(connect(settings.redis.url), settings.redis)
    silence = worker.heartbeat_ttl_seconds - worker.heartbeat_seconds
    recovery = Recovery(Attempts(records, worker.max_attempts), silence)
    lobby = Lobby(records, (), Rule(worker.overtake_seconds, worker.cold_delay_seconds))
    unplaceable = Unplaceable(records, lobby, worker.unplaceable_seconds)
    return Housekeeping(
        connect(settings.redis.url),
        f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
        worker.heartbeat_seconds,
        (recovery.sweep, unplaceable.sweep),
    )
