"""Put generations into RQ's queues: one queue per model and
priority, JSON inside, nothing but the id."""

from typing import Any

from rq import Queue

from service.domain.generation import Generation
from service.domain.request import Priority
from service.records.keys import DOORBELL, queue_name

SERIALIZER = "json"

#: What RQ would call to run a job. `WarmWorker` never calls it: it reads the id and asks the
#: record. A plain `rq worker` that takes one fails on the name, and the sweep queues it again.
JOB_FUNCTION = "hidiffusion.generation"


def model_queue(model: str, priority: Priority, connection: Any) -> Queue:
    """RQ's queue of one model and priority."""
    return Queue(queue_name(model, priority), connection=connection, serializer=SERIALIZER)


def enqueue(pipe: Any, generation: Generation, queue: Queue, *, front: bool) -> None:
    """Add to `pipe` what puts `generation` into its queue.

    Args:
        pipe: a transaction; nothing is written before it is executed.
        generation: its id is all the queue holds.
        queue: the one of its model and priority.
        front: overtake what waits, as a generation does that had been begun before; it is taken
            from where it stood first. To look for a new one would be to go through the queue.
    """
    if front:
        pipe.lrem(queue.key, 0, generation.id)
    queue.enqueue_call(
        JOB_FUNCTION,
        args=[generation.id],
        job_id=generation.id,
        description=f"generation {generation.id}",
        at_front=front,
        pipeline=pipe,
    )
    pipe.publish(DOORBELL, "")
