"""Who else is drawn with a generation that is about to run."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from service.domain.errors import RecordUnreadable, Unavailable
from service.domain.generations.generation import Generation
from service.records.records import RedisRecords
from service.supervisor.lobby import Lobby

_log = logging.getLogger(__name__)


class Mates:
    """Begins attempts that may be drawn in one batch with another.

    Args:
        records: where attempts are begun.
        lobby: what waits.
        max_batch: most rows of a batch.
    """

    def __init__(self, records: RedisRecords, lobby: Lobby, max_batch: int) -> None:
        self._records = records
        self._lobby = lobby
        self._max_batch = max_batch

    def begun_with(
        self, generation: Generation, worker: str, capacities: Mapping[str, int]
    ) -> Iterator[Generation]:
        """Begin what goes with `generation`, as far as there is memory for it.

        First attempts only: after a crash each runs alone, so that one that always crashes cannot
        take others down with it.

        Args:
            generation: as its own attempt was begun.
            worker: name of the worker.
            capacities: by model, the most pixels there is memory for; where absent, any number.
        """
        request, most = generation.request, self._max_batch - 1
        if request.model in capacities:
            most = min(most, capacities[request.model] // request.pixels - 1)
        if generation.attempt > 1 or most < 1:
            return
        with contextlib.suppress(Unavailable, RecordUnreadable):
            for mate_id in self._lobby.mates(request, most):
                if self._lobby.untried(mate_id):
                    mate = self._records.begin_attempt(mate_id, worker, datetime.now(UTC))
                    if mate is not None:
                        _log.info("together with %s", mate_id)
                        yield mate
