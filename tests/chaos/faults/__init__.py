"""What is done to the stack: one function per kind of fault.

Each gets the stack, the id of a generation that is under way, and a seeded source of randomness. It
returns when the fault is over and everything it took away is there again.
"""

import os
import random
import signal
import time
from collections.abc import Callable

from service.records.keys import record_key
from tests.chaos.stack import COMPILER, HEARTBEAT_TTL_SECONDS, Process, Stack
from tests.generations import make_generation, now

#: Longest that it may take to cancel what no worker can read.
CANCEL_SECONDS = 120.0

Inject = Callable[[Stack, str, random.Random], None]


def kill_pipeline(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """kill -9 the process that computes."""
    pid = stack.pipeline_of(_worker(stack, generation_id, chance))
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def stop_pipeline(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """SIGSTOP to the process that computes, and to it alone: its supervisor has to notice."""
    pid = stack.pipeline_of(_worker(stack, generation_id, chance))
    if pid is not None:
        os.kill(pid, signal.SIGSTOP)


def redis_out_of_memory(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """Redis refuses whatever takes memory."""
    stack.client.config_set("maxmemory", 1)
    time.sleep(chance.uniform(0.5, 4))
    stack.client.config_set("maxmemory", 0)


def redis_read_only(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """Redis is made a replica of nobody for a while, as in a failover: it takes no writes."""
    stack.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    time.sleep(chance.uniform(0.5, 4))
    stack.client.execute_command("REPLICAOF", "NO", "ONE")


def strange_record(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """A generation of a newer version waits before all others; it is cancelled in the end."""
    accepted = stack.records.accept(make_generation(model="tiny", priority="high"), None)
    key = record_key(accepted.id)
    stack.client.hset(key, "schema", "999")
    time.sleep(chance.uniform(0.5, 4))
    stack.client.hset(key, "schema", "1")
    stack.records.request_cancel(accepted.id, now())
    deadline = time.monotonic() + CANCEL_SECONDS
    while not stack.records.get(accepted.id).status.final:
        assert time.monotonic() < deadline, f"{accepted.id} is not cancelled"
        time.sleep(0.1)
    stack.records.delete(accepted.id)


def kill_worker(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """kill -9 the supervisor; another is started."""
    worker = _worker(stack, generation_id, chance)
    worker.kill()
    stack.replace(worker)


def terminate_worker(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """SIGTERM, as a container runtime or a spot machine's end sends it; another is started."""
    worker = _worker(stack, generation_id, chance)
    worker.signal(signal.SIGTERM)
    worker.process.wait(60)
    stack.replace(worker)


def terminate_while_loading(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """kill -9 a supervisor, and SIGTERM its successor while that loads; a third is started."""
    worker = _worker(stack, generation_id, chance)
    worker.kill()
    second = Process(stack, "worker")
    time.sleep(chance.uniform(0.5, 8))
    second.signal(signal.SIGTERM)
    second.process.wait(60)
    stack.replace(worker)


def kill_redis(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """kill -9 Redis, and start it again over its append-only file."""
    stack.redis.stop(signal.SIGKILL)
    time.sleep(chance.uniform(0, 2))
    stack.redis.start()


def kill_api(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """kill -9 the front ends, and start them again."""
    stack.api.kill()
    time.sleep(chance.uniform(0, 1))
    stack.api = Process(stack, "api")


def freeze_worker(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """SIGSTOP the supervisor for longer than its heartbeat may fail; its pipeline works on."""
    worker = _worker(stack, generation_id, chance)
    worker.signal(signal.SIGSTOP)
    time.sleep(HEARTBEAT_TTL_SECONDS + chance.uniform(1, 3))
    worker.signal(signal.SIGCONT)


def two_holders(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """Freeze supervisor and pipeline until another worker has the job, then let both go on."""
    worker = _worker(stack, generation_id, chance)
    pipeline = stack.pipeline_of(worker)
    before = stack.records.get(generation_id).attempt
    frozen = [worker.pid, *([pipeline] if pipeline else [])]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 4 * HEARTBEAT_TTL_SECONDS
    while time.monotonic() < deadline:
        now = stack.records.get(generation_id)
        if now.attempt > before or now.status.final:
            break
        time.sleep(0.05)
    for pid in reversed(frozen):
        os.kill(pid, signal.SIGCONT)


def cut_redis(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """Cut every connection to Redis, some times over."""
    for _ in range(chance.randint(1, 5)):
        stack.redis_proxy.cut_all()
        time.sleep(chance.uniform(0, 0.3))


def hold_redis(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """Nothing gets through to Redis or back for a while, though connections stay open."""
    stack.redis_proxy.hold()
    time.sleep(chance.uniform(0.5, 4))
    stack.redis_proxy.release()


def delay_redis(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """Every piece to and from Redis is late for a while."""
    stack.redis_proxy.delay = chance.uniform(0.02, 0.2)
    time.sleep(chance.uniform(1, 3))
    stack.redis_proxy.delay = 0.0


def lose_reply(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """Redis runs a script, and the reply never comes."""
    for _ in range(chance.randint(1, 3)):
        stack.redis_proxy.lose_the_reply_to(b"EVALSHA")
        time.sleep(0.2)


def store_500(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The store answers 500."""
    _store(stack, "500", chance.uniform(0.5, 5))


def store_503(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The store answers 503."""
    _store(stack, "503", chance.uniform(0.5, 5))


def store_full(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The store has no room."""
    _store(stack, "full", chance.uniform(0.5, 5))


def store_denied(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The store denies access."""
    _store(stack, "denied", chance.uniform(0.5, 5))


def store_cut(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The store does what it is asked and drops the connection instead of answering."""
    _store(stack, "cut", chance.uniform(0.2, 2))


def store_slow(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """Every answer of the store takes a second."""
    _store(stack, "slow", chance.uniform(1, 4))


def step_clock(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The service's wall clock jumps by up to a day, forward or back."""
    stack.step_clock(chance.randint(-86_400, 86_400))
    time.sleep(chance.uniform(0.5, 1.5))


def _store(stack: Stack, fault: str, seconds: float) -> None:
    stack.faulty.fault = fault  # type: ignore[assignment]
    time.sleep(seconds)
    stack.faulty.fault = "none"


def _worker(stack: Stack, generation_id: str, chance: random.Random) -> Process:
    """The worker that runs the generation, or any if none does."""
    return stack.worker_of(generation_id) or chance.choice(stack.workers)


#: Every kind of fault, with how often it is drawn.
FAULTS: dict[Inject, int] = {
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
    kill_api: 3,
    cut_redis: 3,
    hold_redis: 3,
    delay_redis: 2,
    lose_reply: 3,
    store_500: 2,
    store_503: 2,
    store_full: 2,
    store_denied: 2,
    store_cut: 2,
    store_slow: 2,
    **({step_clock: 2} if COMPILER else {}),
}

#: Cheap ones, which start no process that has to load torch: for the short form.
QUICK: tuple[Inject, ...] = (
    kill_pipeline,
    kill_redis,
    cut_redis,
    store_denied,
    lose_reply,
    kill_api,
)
