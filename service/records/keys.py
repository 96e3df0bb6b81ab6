"""Every Redis key of the queue, and how long it lives.

| key | holds | lives |
| --- | --- | --- |
| `hidiffusion:generation:<id>` | hash: the record, nested parts as JSON | `record_ttl` once final |
| `hidiffusion:events:<id>` | stream: what happened | with its record |
| `hidiffusion:index:<status>`, `…:all` | sorted set of ids, by id | swept with the records |
| `hidiffusion:index:@<tenant>:<status>`, `…:all` | the same, of one tenant | as those |
| `hidiffusion:ended` | sorted set: what is final, by when its record ends | until pruned |
| `hidiffusion:rate:<key>:<policy>` | string: when a key has paid off what it took | a minute |
| `hidiffusion:stored:<tenant>` | hash: bytes of each result or upload, `total` | until they end |
| `hidiffusion:stored-until:<tenant>` | sorted set: the same by the time they end | as that |
| `hidiffusion:uploads-until` | sorted set: objects of uploads by when they expire | as those |
| `hidiffusion:started-from` | hash: unfinished generations that use each upload | as those |
| `hidiffusion:slots:<key>` | sorted set: unfinished generations of a key | until they are final |
| `hidiffusion:leases` | sorted set: running ids by last sign of life | while running |
| `hidiffusion:idempotency:[@<tenant>:]<key>` | hash: fingerprint and ids | `idempotency_ttl` |
| `hidiffusion:upload:[@<tenant>:]<id>` | string: the record of an upload as JSON | `upload_ttl` |
| `hidiffusion:worker:<name>` | string: a worker's report as JSON | one heartbeat TTL |
| `hidiffusion:workers` | set: names of workers that have reported | swept with the reports |
| `hidiffusion:line:<model>:@<tenant>` | sorted set: a tenant's ids, by rank | while queued |
| `hidiffusion:backlog:<model>` | sorted set: tenants that have such a line | as those |
| `hidiffusion:shares` | sorted set: virtual time of tenants that are ahead | until the rest is |
| `hidiffusion:virtual-time` | string: the virtual time of whoever was served last | for good |
| `hidiffusion:charges` | hash: what serving each waiting id charges | while queued |
| `rq:queue:generations:<model>:<priority>` | list of ids: one of RQ's queues | while queued |
| `rq:job:<id>` | hash: RQ's envelope, which holds nothing but the id | until final |
| `hidiffusion:quarantine` | hash: records that somebody could not read, and why | with them |
| `hidiffusion:webhooks:due` | sorted set: ids by the time of the next attempt | until delivered |
| `hidiffusion:webhooks:since` | sorted set: ids by the time of the first attempt | as that |
| `hidiffusion:webhooks:dead` | sorted set: ids that are not tried any more | with their records |
| `hidiffusion:webhooks:counts` | hash: attempts and ends so far, by outcome | for good |
| `rq:queue:webhooks` | list of ids: RQ's queue of deliveries | until taken |
| `hidiffusion:condemned` | sorted set: objects to delete, by prefix, since when | until deleted |
| `hidiffusion:housekeeper` | string: the worker that does what is done once | two heartbeats |
| `hidiffusion:probe` | string: Redis took a write when readiness was asked for | a minute |
| `hidiffusion:sweeper` | string: somebody sweeps the store, or did a moment ago | one interval |

Scripts reach several of these at once, so they need one Redis, not a Redis Cluster.
"""

from rq import Queue
from rq.job import Job

from service.domain.generations.generation import Generation
from service.domain.requests.request import Priority

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

#: A model, `:@` and a tenant are appended to the first, a model to the second.
LINES = "hidiffusion:line:"
BACKLOG = "hidiffusion:backlog:"
SHARES = "hidiffusion:shares"
VIRTUAL_TIME = "hidiffusion:virtual-time"
CHARGES = "hidiffusion:charges"

#: Channel that is published to when something was enqueued.
DOORBELL = "hidiffusion:doorbell"
WORKERS = "hidiffusion:workers"
#: Members are tenant, final status and id, joined by slashes.
ENDED = "hidiffusion:ended"
QUARANTINE = "hidiffusion:quarantine"
PROBE = "hidiffusion:probe"
CONDEMNED = "hidiffusion:condemned"
SWEEPER = "hidiffusion:sweeper"
HOUSEKEEPER = "hidiffusion:housekeeper"
WEBHOOKS_DUE = "hidiffusion:webhooks:due"
WEBHOOKS_SINCE = "hidiffusion:webhooks:since"
WEBHOOKS_DEAD = "hidiffusion:webhooks:dead"
WEBHOOKS_COUNTS = "hidiffusion:webhooks:counts"

#: Object keys of uploads, by the time they expire; by how many unfinished generations use them.
UPLOADS_UNTIL = "hidiffusion:uploads-until"
STARTED_FROM = "hidiffusion:started-from"

#: A tenant is appended to these; empty: everybody's.
STORED = "hidiffusion:stored:"
STORED_UNTIL = "hidiffusion:stored-until:"

#: What the scripts that finish a generation write to besides, in their order.
FINISHING = (WEBHOOKS_DUE, STORED, STORED_UNTIL)

#: What `queue_of` tells is appended to this.
QUEUES = f"{Queue.redis_queue_namespace_prefix}{_NAMESPACE}"

#: Member of `INDEX` that lists every generation whatever its status.
ALL = "all"


def record_key(generation_id: str) -> str:
    """The record of one generation."""
    return f"hidiffusion:generation:{generation_id}"


def index_key(status: str, tenant: str = "") -> str:
    """The ids of all generations with one status, or of `ALL`; of one tenant, when named."""
    return f"{INDEX}{_of(tenant)}{status}"


def idempotency_key(key: str, tenant: str = "") -> str:
    """What a client's idempotency key was used for; each tenant has its own."""
    return f"hidiffusion:idempotency:{_of(tenant)}{key}"


def upload_key(upload_id: str, tenant: str = "") -> str:
    """The record of one upload; each tenant has its own."""
    return f"hidiffusion:upload:{_of(tenant)}{upload_id}"


def rate_key(key_id: str, policy: str) -> str:
    """The cell of one rate of one API key."""
    return f"hidiffusion:rate:{key_id}:{policy}"


def slots_key(key_id: str) -> str:
    """The unfinished generations of one API key."""
    return f"hidiffusion:slots:{key_id}"


def line_key(model: str, tenant: str) -> str:
    """What one tenant has waiting for one model."""
    return f"{LINES}{model}:@{tenant}"


def _of(tenant: str) -> str:
    return f"@{tenant}:" if tenant else ""


def worker_key(name: str) -> str:
    """The last report of one worker."""
    return f"hidiffusion:worker:{name}"


def queue_key(model: str, priority: Priority) -> str:
    """The list of ids behind `queue_name`."""
    return f"{QUEUES}{model}:{priority}"


def job_key(generation_id: str) -> str:
    """RQ's envelope of one generation."""
    return f"{Job.redis_job_namespace_prefix}{generation_id}"
