"""Who is served next: fair shares between tenants, priorities with ageing within each share.

Each tenant has a *virtual time*: the work it was given so far, divided by its weight. Whoever has
the least is served next (start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996). A tenant
that comes back after a pause begins at the virtual time of the others, so it neither saves up
turns nor pays for having waited.

Within its share a tenant's generations are ordered by *rank*, the time of acceptance, moved by the
priority. Ranks never change, so nobody is overtaken by what is accepted later than twice
`PRIORITY_SECONDS` after it.

One function says the order: workers take from its beginning, and a place in the queue is counted
along it.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from service.domain.requests.request import Priority, ResolvedRequest

#: How much earlier than a normal one a generation of high priority is ranked; low: later.
PRIORITY_SECONDS = 900.0

_SHIFT: dict[Priority, float] = {"high": -PRIORITY_SECONDS, "normal": 0.0, "low": PRIORITY_SECONDS}


@dataclass(frozen=True)
class Waiting:
    """A generation in the queue.

    Attributes:
        id: of the generation.
        tenant: whose it is.
        model: what it needs.
        rank: its place among its tenant's own, in Unix seconds.
        charge: what serving it adds to its tenant's virtual time.
    """

    id: str
    tenant: str
    model: str
    rank: float
    charge: float


@dataclass(frozen=True)
class Line:
    """What one tenant has waiting, by rank, and its virtual time."""

    tenant: str
    virtual_time: float
    waiting: tuple[Waiting, ...]


def rank_of(accepted_at: datetime, priority: Priority) -> float:
    """The place of a generation among its tenant's own, in Unix seconds."""
    return accepted_at.timestamp() + _SHIFT[priority]


def charge_of(request: ResolvedRequest, weight: float) -> float:
    """What serving a request adds to its tenant's virtual time: megapixel steps by weight."""
    return request.pixels / 1e6 * max(request.num_inference_steps, 1) / weight


def serving_order(lines: Iterable[Line]) -> Iterator[Waiting]:
    """What waits in `lines`, in the order in which it is served when nothing else comes."""
    heap = [
        (line.virtual_time, line.waiting[0].rank, line.tenant, 0, line)
        for line in lines
        if line.waiting
    ]
    heapq.heapify(heap)
    while heap:
        time, _, tenant, index, line = heapq.heappop(heap)
        one = line.waiting[index]
        yield one
        index += 1
        if index < len(line.waiting):
            following = (time + one.charge, line.waiting[index].rank, tenant, index, line)
            heapq.heappush(heap, following)
