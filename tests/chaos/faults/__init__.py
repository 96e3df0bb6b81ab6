"""What is done to the stack: one function per kind of fault.

Each gets the stack, the id of a generation that is under way, and a seeded source of randomness. It
returns when the fault is over and everything it took away is there again.
"""

import random
from collections.abc import Callable

from tests.chaos.faults.clients import hang_receivers, kill_deliverer, slow_clients
from tests.chaos.faults.processes import (
    exhaust_descriptors,
    freeze_worker,
    kill_api,
    kill_pipeline,
    kill_worker,
    other_version,
    step_clock,
    stop_pipeline,
    terminate_while_loading,
    terminate_worker,
    two_holders,
)
from tests.chaos.faults.redis import (
    cut_redis,
    delay_redis,
    fail_over,
    hold_redis,
    kill_redis,
    lose_reply,
    redis_disk_full,
    redis_out_of_memory,
    redis_read_only,
    strange_record,
)
from tests.chaos.faults.store import (
    folder_full,
    store_500,
    store_503,
    store_cut,
    store_denied,
    store_full,
    store_slow,
)
from tests.chaos.machine import COMPILER
from tests.chaos.stack import Stack

Inject = Callable[[Stack, str, random.Random], None]

#: Every kind of fault that can meet a service whichever store it has, with how often it is drawn.
_ANYWHERE: dict[Inject, int] = {
    kill_pipeline: 4,
    stop_pipeline: 2,
    redis_out_of_memory: 2,
    redis_read_only: 2,
    strange_record: 2,
    kill_worker: 4,
    terminate_worker: 4,
    terminate_while_loading: 1,
    freeze_worker: 3,
    two_holders: 3,
    kill_redis: 4,
    fail_over: 4,
    kill_api: 3,
    cut_redis: 3,
    hold_redis: 3,
    delay_redis: 2,
    lose_reply: 3,
    exhaust_descriptors: 4,
    slow_clients: 3,
    hang_receivers: 3,
    kill_deliverer: 2,
    **({step_clock: 2, redis_disk_full: 4} if COMPILER else {}),
}

#: Kinds of fault and how often each is drawn, by what the store is.
FAULTS: dict[str, dict[Inject, int]] = {
    "bucket": _ANYWHERE
    | {
        store_500: 2,
        store_503: 2,
        store_full: 2,
        store_denied: 2,
        store_cut: 2,
        store_slow: 2,
    },
    "folder": _ANYWHERE | ({folder_full: 10} if COMPILER else {}),
}


def kinds(stack: Stack) -> dict[Inject, int]:
    """What may be done to this stack, and how often each is drawn."""
    return FAULTS[stack.kind] | ({other_version: 3} if stack.release else {})


#: Cheap ones, which start no process that has to load torch: for the short form.
QUICK: tuple[Inject, ...] = (
    kill_pipeline,
    kill_redis,
    cut_redis,
    store_denied,
    lose_reply,
    kill_api,
)
