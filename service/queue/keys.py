"""Every Redis key of the queue, and how long it lives.

| key | holds | lives |
| --- | --- | --- |
| `hidiffusion:generation:<id>` | hash: the record, nested parts as JSON | `record_ttl` once final |
| `hidiffusion:events:<id>` | stream: what happened | with its record |
| `hidiffusion:index:<status>`, `…:all` | sorted set of ids, by id | swept with the records |
| `hidiffusion:leases` | sorted set: running ids by last sign of life | while running |
| `hidiffusion:idempotency:<key>` | hash: fingerprint and id | `idempotency_ttl` |
| `hidiffusion:worker:<name>` | string: a worker's report as JSON | one heartbeat TTL |
| `hidiffusion:workers` | set: names of workers that have reported | swept with the reports |
| `rq:queue:generations:<model>:<priority>` | list of ids: one of RQ's queues | while queued |
| `rq:job:<id>` | hash: RQ's envelope, which holds nothing but the id | until final |

Scripts reach several of these at once, so they need one Redis, not a Redis Cluster.
"""

from rq import Queue
from rq.job import Job

from service.domain.generation import Generation, Priority

#: RQ's names of our queues begin with this; a model's name holds no colon.
_NAMESPACE = "generations:"


def queue_name(model: str, priority: Priority) -> str:
    """RQ's name of the queue of one model and priority."""
    return f"{_NAMESPACE}{model}:{priority}"


def queue_of(generation: Generation) -> str:
    """The queue of one generation, as its record has it: what `QUEUES` is completed by."""
    return f"{generation.request.model}:{generation.priority}"


#: A status, or `ALL`, is appended to this.
INDEX = "hidiffusion:index:"

LEASES = "hidiffusion:leases"

#: Channel that is published to when something was enqueued.
DOORBELL = "hidiffusion:doorbell"
WORKERS = "hidiffusion:workers"

#: What `queue_of` tells is appended to this.
QUEUES = f"{Queue.redis_queue_namespace_prefix}{_NAMESPACE}"

#: Member of `INDEX` that lists every generation whatever its status.
ALL = "all"


def record_key(generation_id: str) -> str:
    """The record of one generation."""
    return f"hidiffusion:generation:{generation_id}"


def index_key(status: str) -> str:
    """The ids of all generations with one status, or of `ALL`."""
    return INDEX + status


def idempotency_key(key: str) -> str:
    """What a client's idempotency key was used for."""
    return f"hidiffusion:idempotency:{key}"


def worker_key(name: str) -> str:
    """The last report of one worker."""
    return f"hidiffusion:worker:{name}"


def queue_key(model: str, priority: Priority) -> str:
    """The list of ids behind `queue_name`."""
    return f"{QUEUES}{model}:{priority}"


def job_key(generation_id: str) -> str:
    """RQ's envelope of one generation."""
    return f"{Job.redis_job_namespace_prefix}{generation_id}"
