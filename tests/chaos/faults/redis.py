"""Redis dies, is cut off, and refuses."""

import random
import signal
import tempfile
import time
from pathlib import Path

from service.records.keys import record_key
from tests.chaos.stack import Stack
from tests.generations import make_generation, now
from tests.servers import RedisServer

#: Longest that it may take to cancel what no worker can read.
CANCEL_SECONDS = 120.0


def kill_redis(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """kill -9 Redis, and start it again over its append-only file."""
    stack.redis.stop(signal.SIGKILL)
    time.sleep(chance.uniform(0, 2))
    stack.redis.start()


def fail_over(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """A replica that has everything becomes the primary, handed over to or after a crash."""
    folder = Path(tempfile.mkdtemp(dir=stack.folder))
    environment = stack.redis_machine.environment
    former, replica = stack.redis, RedisServer(folder, append_only=True, environment=environment)
    replica.start()
    replica.follow(former)
    crash = chance.random() < 0.5
    if crash:
        stack.redis_proxy.hold()
        time.sleep(0.1)
        stack.client.set("chaos", "written after everything else", px=1)
        assert stack.client.wait(1, 10_000) == 1
        former.stop(signal.SIGKILL)
        replica.promote()
    else:
        former.hand_over(replica)
    stack.redis = replica
    for name in (stack.redis_proxy, stack.past):
        name.lead_to(replica.port)
    stack.past.cut_all()
    if crash:
        stack.redis_proxy.cut_all()
        stack.redis_proxy.release()
    else:
        time.sleep(chance.uniform(0, 4))  # who did not notice still asks a replica
        former.stop(signal.SIGKILL)


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


def redis_disk_full(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """There is no room for the append-only file.

    A Redis that syncs always ends at the first write; one that syncs every second refuses writes.
    """
    stack.client.config_set("appendfsync", chance.choice(["always", "everysec"]))
    stack.redis_machine.fill_disk(True)
    time.sleep(chance.uniform(0.5, 5))
    stack.redis_machine.fill_disk(False)
    if not stack.redis.alive:
        stack.redis.start()
    stack.client.config_set("appendfsync", "always")
