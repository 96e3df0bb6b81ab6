"""What puts generations into RQ's queues: one queue per model and priority, JSON inside, nothing
but the id."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from rq import Queue

from service.domain.generations.generation import Generation
from service.domain.requests.request import Priority
from service.records.keys import DOORBELL, job_key, queue_name

SERIALIZER = "json"

#: What RQ would call to run a job. `WarmWorker` never calls it: it reads the id and asks the
#: record. A plain `rq worker` that takes one fails on the name, and the sweep queues it again.
JOB_FUNCTION = "hidiffusion.generation"

#: A command of Redis, word by word, for a script to run.
Command = tuple[Any, ...]


def model_queue(model: str, priority: Priority, connection: Any) -> Queue:
    """RQ's queue of one model and priority."""
    return Queue(queue_name(model, priority), connection=connection, serializer=SERIALIZER)


def entry(generation: Generation, queue: Queue) -> Iterator[Command]:
    """The commands that enter a generation at the end of its queue, and wake who waits for one.

    They write what `rq.Queue.enqueue_call` does; what the job's hash holds is RQ's own word.
    """
    job = queue.create_job(
        JOB_FUNCTION,
        args=[generation.id],
        job_id=generation.id,
        timeout=Queue.DEFAULT_TIMEOUT,
        description=f"generation {generation.id}",
    )
    job.origin, job.enqueued_at = queue.name, datetime.now(UTC)
    yield "SADD", queue.redis_queues_keys, queue.key
    yield "HSET", job_key(generation.id), *flat(job.to_dict())
    yield "RPUSH", queue.key, generation.id
    yield "PUBLISH", DOORBELL, ""


def flat(fields: dict[str, Any]) -> Iterator[Any]:
    """Names and values in turn, as commands take them."""
    for pair in fields.items():
        yield from pair
