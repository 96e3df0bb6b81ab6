"""`WebhookWorker`: an RQ worker that delivers webhooks. It has no torch, and serves nobody.

It is a process of its own so that a receiver that is slow, or down, delays no picture and no
answer. Several may run side by side.
"""

import contextlib
import logging
import os
import random
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from rq import Queue
from rq.job import Job
from rq.worker.base import WorkerStatus

from service.api.http.views.webhook_views import WebhookPayload, event_of
from service.api.webhooks.delivery import Courier, DeliveryFailed, Envelope
from service.domain.errors import GenerationNotFound, RecordUnreadable, Unavailable
from service.domain.generations.generation import Generation
from service.records.queue.enqueue import SERIALIZER
from service.records.queue.outbox import WEBHOOK_QUEUE, Outbox
from service.records.queue.rq_worker import ReturningWorker
from service.records.records import RedisRecords
from service.settings import WebhookSettings
from service.telemetry import bind_generation

_log = logging.getLogger(__name__)

#: Longest wait for a job before looking for webhooks that have become due.
DEQUEUE_SECONDS = 1.0

#: Seconds between attempts to reach Redis again.
RECONNECT_SECONDS = 1.0

#: A delivery that is not over this long after its time limit was lost with its process.
LEASE_MARGIN_SECONDS = 20.0

#: Standard Webhooks wants a name that stays the same when a delivery is repeated.
_ID_PREFIX = "msg_"


#: Deliveries at a time: in all, to one host, and of one tenant.
AT_ONCE = 32
AT_ONCE_TO_HOST = 4
AT_ONCE_OF_TENANT = 8

#: One that has to wait because its host or tenant has as many is due again after this long.
CROWDED_SECONDS = 0.5


class Crowd:
    """Deliveries under way, by host and by tenant: slow receivers of one keep nobody else waiting.

    Where everything is one tenant's, hosts alone count.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: Counter[str] = Counter()
        self._tenants: Counter[str] = Counter()

    @contextlib.contextmanager
    def place(self, host: str, tenant: str) -> Iterator[bool]:
        """Whether there is room for one more, which is taken for the length of the block."""
        with self._lock:
            free = self._hosts[host] < AT_ONCE_TO_HOST and (
                not tenant or self._tenants[tenant] < AT_ONCE_OF_TENANT
            )
            if free:
                self._hosts[host] += 1
                self._tenants[tenant] += 1
        try:
            yield free
        finally:
            if free:
                with self._lock:
                    for counter, name in ((self._hosts, host), (self._tenants, tenant)):
                        counter[name] -= 1
                        if not counter[name]:
                            del counter[name]


class WebhookWorker(ReturningWorker):
    """Deliver what is due, several at a time.

    Args:
        connection: RQ's connection; it answers in bytes.
        records: the generations.
        outbox: the webhooks that wait for their delivery.
        courier: posts them.
        secrets_of: the signing secrets of a tenant; raises `ValueError` when they cannot be read.
        settings: attempts and delays.
        public_url: what links begin with.
    """

    def __init__(
        self,
        connection: Any,
        records: RedisRecords,
        outbox: Outbox,
        courier: Courier,
        *,
        secrets_of: Callable[[str], Sequence[str]],
        settings: WebhookSettings,
        public_url: str,
    ) -> None:
        super().__init__(
            [WEBHOOK_QUEUE],
            name=f"webhooks-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
            connection=connection,
            serializer=SERIALIZER,
            log_job_description=False,
        )
        self._records = records
        self._outbox = outbox
        self._courier = courier
        self._secrets_of = secrets_of
        self._settings = settings
        self._public_url = public_url
        self._lease_seconds = settings.timeout_seconds + LEASE_MARGIN_SECONDS
        self._pool = ThreadPoolExecutor(AT_ONCE, "delivery")
        self._free = threading.Semaphore(AT_ONCE)
        self._crowd = Crowd()

    def run(self) -> None:
        """Deliver until told to stop; Redis may go and come back meanwhile."""
        self._install_signal_handlers()  # type: ignore[no-untyped-call]
        while not self._stop_requested:
            try:
                self.work(logging_level=None)
            except Exception as error:
                _log.warning("no webhooks for now: %s", error)
            if not self._stop_requested:
                time.sleep(RECONNECT_SECONDS)
        self._pool.shutdown()

    # What RQ's work loop calls ------------------------------------------------------------------

    def dequeue_job_and_maintain_ttl(
        self,
        timeout: int | None,  # noqa: ARG002
        max_idle_time: int | None = None,  # noqa: ARG002
    ) -> tuple[Job, Queue] | None:
        """The next delivery; None when told to stop."""
        self.set_state(WorkerStatus.IDLE)
        while not self._stop_requested:
            self.heartbeat()
            try:
                self._outbox.relay(self._lease_seconds)
                if generation_id := self._outbox.take(DEQUEUE_SECONDS):
                    job = Job(generation_id, connection=self.connection, serializer=SERIALIZER)
                    return job, self._outbox.queue
            except Unavailable as error:
                _log.warning("no webhooks without Redis: %s", error)
                time.sleep(RECONNECT_SECONDS)
        return None

    def execute_job(self, job: Job, queue: Queue) -> None:  # noqa: ARG002
        """Have one delivered in a thread of its own, as soon as one is free."""
        self._free.acquire()
        self._pool.submit(self._handle, job.id)

    def _shutdown(self) -> None:
        self._stop_requested = True

    # One delivery -------------------------------------------------------------------------------

    def _handle(self, generation_id: str) -> None:
        """Deliver one; what Redis cannot be told now is due again when its lease ends."""
        with bind_generation(generation_id):
            try:
                self._consider(generation_id)
            except Unavailable as error:
                _log.warning("a webhook is left for later: %s", error)
            except Exception:  # one delivery must not end the thread that others need
                _log.exception("a webhook is left for later")
            finally:
                self._free.release()

    def _consider(self, generation_id: str) -> None:
        try:
            generation = self._records.get(generation_id)
        except GenerationNotFound:
            self._outbox.drop(generation_id)
            return
        except RecordUnreadable as error:
            self._outbox.postpone(generation_id, error.retry_after)
            return
        if not generation.webhook or event_of(generation) not in generation.webhook.events:
            self._outbox.drop(generation_id)
            return
        url = generation.webhook.url
        host, tenant = urlsplit(url).hostname or "", generation.tenant
        with self._crowd.place(host, tenant) as free:
            if not free:
                self._outbox.postpone(generation_id, CROWDED_SECONDS)
            elif attempt := self._outbox.begin(generation_id, self._lease_seconds):
                self._try(generation, url, attempt)

    def _try(self, generation: Generation, url: str, attempt: int) -> None:
        try:
            self._deliver(generation, url)
        except DeliveryFailed as error:
            self._failed(generation.id, attempt, error)
        else:
            self._outbox.done(generation.id)
            _log.info("the webhook was delivered at attempt %d", attempt)

    def _deliver(self, generation: Generation, url: str) -> None:
        try:
            signing = self._secrets_of(generation.tenant)
        except ValueError as error:
            raise DeliveryFailed(str(error)) from None
        if not signing:
            raise DeliveryFailed("the tenant has no secret to sign with any more")
        body = WebhookPayload.of(generation).body(self._public_url).encode()
        self._courier.deliver(Envelope(_ID_PREFIX + generation.id, url, body), signing)

    def _failed(self, generation_id: str, attempt: int, error: DeliveryFailed) -> None:
        if error.for_good or attempt >= self._settings.max_attempts:
            self._outbox.bury(generation_id, str(error))
            _log.error("the webhook is dead after attempt %d: %s", attempt, error)
            return
        delay = delay_after(attempt, self._settings)
        self._outbox.again(generation_id, delay, str(error))
        _log.warning("webhook attempt %d failed, again in %.0f s: %s", attempt, delay, error)


def delay_after(attempt: int, settings: WebhookSettings) -> float:
    """Seconds from failed attempt `attempt` to the next: three times as long each time.

    It is drawn from the upper half of that, so that those that failed together part ways.
    """
    longest = min(
        settings.first_delay_seconds * 3.0 ** (attempt - 1), settings.longest_delay_seconds
    )
    return longest * random.uniform(0.5, 1.0)
