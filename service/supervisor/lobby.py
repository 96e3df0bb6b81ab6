"""What waits in the queues, as one worker sees it: choose from it, or wait for more."""

import itertools
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache

from ulid import ULID

from service.domain.batching import batch_key
from service.domain.errors import GenerationNotFound, RecordUnreadable
from service.domain.request import PRIORITIES, Priority, ResolvedRequest
from service.events.connection import unavailable_when_down
from service.records.keys import DOORBELL, queue_key
from service.records.records import RedisRecords
from service.supervisor.routing import Rule, Waiting, choose

#: Ids looked at in each queue; those behind them wait until the queue is shorter.
WINDOW = 1000

#: Requests kept in memory, so that each is read once however often the queues are looked at.
REMEMBERED = 8 * WINDOW


class Lobby:
    """The queues of some models.

    Nothing is taken here: a generation leaves its queue when its attempt begins, in one step.

    Args:
        records: where the queues are.
        models: whose queues to look at.
        rule: how to choose.

    What this version cannot read is left alone, for workers that can.
    """

    def __init__(self, records: RedisRecords, models: Sequence[str], rule: Rule) -> None:
        self._records = records
        self._redis = records.redis
        self._rule = rule
        self._queues = [(model, priority) for model in models for priority in PRIORITIES]
        self._read = lru_cache(REMEMBERED)(self._read_once)
        self._doorbell = records.redis.pubsub(ignore_subscribe_messages=True)

    def request(self, generation_id: str) -> ResolvedRequest | None:
        """What a generation asks for; None when it has no record, or none that can be read."""
        found = self._read(generation_id)
        return None if isinstance(found, RecordUnreadable) else found

    def choose(
        self, name: str, warm: Collection[str], capacities: Mapping[str, int]
    ) -> Waiting | None:
        """What an idle worker takes now; raises `Unavailable`.

        Args:
            name: the worker's.
            warm: models it has loaded.
            capacities: by model, the most pixels it has memory for; where absent, any number.
        """
        oldest = (self._oldest_that_fits(queue, capacities) for queue in self.queues())
        waiting = [one for one in oldest if one is not None]
        cold = {one.model for one in waiting} - set(warm)
        return choose(
            waiting,
            warm=warm,
            warm_elsewhere=self._warm_elsewhere(name) if cold else (),
            now=time.time(),
            rule=self._rule,
        )

    def mates(self, request: ResolvedRequest, most: int) -> list[str]:
        """Ids of what waits and may be drawn with a request, in turn; raises `Unavailable`."""
        key = batch_key(request)
        if key is None or most < 1:
            return []
        waiting = [one for queue in self.queues() for one in queue if one.model == request.model]
        waiting.sort(key=lambda one: (PRIORITIES.index(one.priority), *_age(one)))
        return [*itertools.islice((one.id for one in waiting if self._key(one.id) == key), most)]

    def wait(self, seconds: float) -> None:
        """Return when something was enqueued, or after `seconds`; raises `Unavailable`."""
        with unavailable_when_down():
            if not self._doorbell.subscribed:
                self._doorbell.subscribe(DOORBELL)
            self._doorbell.get_message(timeout=seconds)

    def queues(self) -> Iterator[list[Waiting]]:
        """What waits in each queue; raises `Unavailable`."""
        with unavailable_when_down(), self._redis.pipeline(transaction=False) as pipe:
            for model, priority in self._queues:
                pipe.lrange(queue_key(model, priority), 0, WINDOW - 1)
            found = pipe.execute()
        for (model, priority), ids in zip(self._queues, found, strict=True):
            yield [_waiting(each, model, priority) for each in ids if self._readable(each)]

    def _oldest_that_fits(
        self, queue: list[Waiting], capacities: Mapping[str, int]
    ) -> Waiting | None:
        def fits(one: Waiting) -> bool:
            capacity = capacities.get(one.model)
            request = None if capacity is None else self.request(one.id)
            return capacity is None or request is None or request.pixels <= capacity

        return next(filter(fits, sorted(queue, key=_age)), None)

    def _readable(self, generation_id: str) -> bool:
        return not isinstance(self._read(generation_id), RecordUnreadable)

    def _read_once(self, generation_id: str) -> ResolvedRequest | RecordUnreadable | None:
        try:
            return self._records.get(generation_id).request
        except GenerationNotFound:
            return None
        except RecordUnreadable as error:
            return error

    def _key(self, generation_id: str) -> str | None:
        request = self.request(generation_id)
        return None if request is None else batch_key(request)

    def _warm_elsewhere(self, name: str) -> set[str]:
        others = (info for info in self._records.workers() if info.name != name)
        return {model for info in others if info.state == "idle" for model in info.warm_models}


def _age(waiting: Waiting) -> tuple[float, str]:
    return waiting.accepted_at, waiting.id


def _waiting(generation_id: str, model: str, priority: Priority) -> Waiting:
    """A ULID tells when it was made; whatever else is in a queue is dealt with at once."""
    try:
        accepted_at = ULID.from_str(generation_id).timestamp
    except ValueError:
        accepted_at = 0.0
    return Waiting(generation_id, model, priority, accepted_at)
