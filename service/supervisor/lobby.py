"""What waits for some models, as one worker sees it: choose from it, or wait for more."""

import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache

from service.domain.errors import GenerationNotFound, RecordUnreadable
from service.domain.generations.batching import batch_key
from service.domain.generations.queueing import Waiting, serving_order
from service.domain.requests.request import ResolvedRequest
from service.events.connection import unavailable_when_down
from service.records.keys import DOORBELL
from service.records.queue.lines import LONG_WINDOW, WINDOW
from service.records.records import RedisRecords
from service.supervisor.routing import Rule, choose

#: Requests kept in memory, so that each is read once however often the lines are looked at.
REMEMBERED = 8000


class Lobby:
    """Those who wait for some models.

    Nothing is taken here: a generation leaves its line when its attempt begins, in one step. What
    this version cannot read is left alone, for workers that can.

    Args:
        records: where the lines are.
        models: whose lines to look at.
        rule: how to choose.
    """

    def __init__(self, records: RedisRecords, models: Sequence[str], rule: Rule) -> None:
        self._records = records
        self._models = models
        self._rule = rule
        self._read = lru_cache(REMEMBERED)(self._read_once)
        self._passed_over: OrderedDict[str, float] = OrderedDict()
        self._doorbell = records.redis.pubsub(ignore_subscribe_messages=True)

    def serve(self, models: Sequence[str]) -> None:
        """Look at the lines of these models from now on."""
        self._models = models

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
        fitting = self.waiting(wanted=lambda one: self._fits(one, capacities))
        cold = {one.model for one in fitting} - set(warm)
        chosen = choose(
            fitting,
            warm=warm,
            warm_elsewhere=self._warm_elsewhere(name) if cold else (),
            now=time.monotonic(),
            rule=self._rule,
            passed_over=self._passed_over,
        )
        while len(self._passed_over) > REMEMBERED:
            self._passed_over.popitem(last=False)
        return chosen

    def mates(self, request: ResolvedRequest, most: int) -> list[str]:
        """Ids of what waits and may be drawn with a request, in turn; raises `Unavailable`."""
        key = batch_key(request)
        if key is None or most < 1:
            return []
        same = (one.id for one in self.waiting([request.model]) if self._key(one.id) == key)
        return [*itertools.islice(same, most)]

    def untried(self, generation_id: str) -> bool:
        """Whether no attempt was begun, as far as can be read; raises `Unavailable`."""
        try:
            return self._records.get(generation_id).attempt == 0
        except (GenerationNotFound, RecordUnreadable):
            return False

    def wait(self, seconds: float) -> None:
        """Return when something was enqueued, or after `seconds`; raises `Unavailable`."""
        with unavailable_when_down():
            if not self._doorbell.subscribed:
                self._doorbell.subscribe(DOORBELL)
            self._doorbell.get_message(timeout=seconds)

    def waiting(
        self,
        models: Sequence[str] | None = None,
        wanted: Callable[[Waiting], bool] = lambda _: True,
    ) -> list[Waiting]:
        """What waits, is wanted and can be read, in the order of service; raises `Unavailable`.

        Of each tenant the first few are looked at; more where none of these is among them.
        """

        def open_to_us(one: Waiting) -> bool:
            return self._readable(one) and wanted(one)

        models = self._models if models is None else models
        lines = self._records.lines.of(models)
        hidden = (
            len(line.waiting) >= WINDOW and not any(map(open_to_us, line.waiting)) for line in lines
        )
        if any(hidden):
            lines = self._records.lines.of(models, LONG_WINDOW)
        return [one for one in serving_order(lines) if open_to_us(one)]

    def _readable(self, one: Waiting) -> bool:
        return not isinstance(self._read(one.id), RecordUnreadable)

    def _read_once(self, generation_id: str) -> ResolvedRequest | RecordUnreadable | None:
        try:
            return self._records.get(generation_id).request
        except GenerationNotFound:
            return None
        except RecordUnreadable as error:
            return error

    def _fits(self, one: Waiting, capacities: Mapping[str, int]) -> bool:
        capacity = capacities.get(one.model)
        request = None if capacity is None else self.request(one.id)
        return capacity is None or request is None or request.pixels <= capacity

    def _key(self, generation_id: str) -> str | None:
        request = self.request(generation_id)
        return None if request is None else batch_key(request)

    def _warm_elsewhere(self, name: str) -> set[str]:
        others = (info for info in self._records.workers() if info.name != name)
        return {model for info in others if info.state == "idle" for model in info.warm_models}
