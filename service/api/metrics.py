"""The figures of one front-end process, for Prometheus.

A registry of its own, so that several applications in one process do not count together.
"""

import time
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.application.generations.query import Query
from service.application.ports import WebhookFigures
from service.domain.errors import ServiceError

#: From a record that is read to a picture that is waited for; seconds.
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600)


class ApiMetrics:
    """What the front ends count, and what is looked up when somebody asks.

    Args:
        query: tells of queues and workers.
    """

    def __init__(self, query: Query) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._requests = Counter(
            "hidiffusion_http_requests",
            "HTTP requests answered.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "hidiffusion_http_response_seconds",
            "Time until an HTTP response begins.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._open = Gauge(
            "hidiffusion_http_open_requests",
            "HTTP requests being answered, event streams among them.",
            registry=registry,
        )
        self._calls = Counter(
            "hidiffusion_grpc_calls", "gRPC calls ended.", ("method", "code"), registry=registry
        )
        self._call_seconds = Histogram(
            "hidiffusion_grpc_call_seconds",
            "Time that gRPC calls take, streams to their end.",
            ("method",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._open_calls = Gauge(
            "hidiffusion_grpc_open_calls", "gRPC calls being answered.", registry=registry
        )
        registry.register(_QueueCollector(query))

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

    @contextmanager
    def open_request(self) -> Iterator[None]:
        """Count an HTTP request as open inside the block."""
        with self._open.track_inprogress():
            yield

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an HTTP response that begins `seconds` after its request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    @contextmanager
    def call(self, method: str) -> Iterator["Call"]:
        """Count a gRPC call; set the code of the one that is yielded when it fails."""
        call, began = Call(), time.perf_counter()
        with self._open_calls.track_inprogress():
            try:
                yield call
            finally:
                self._calls.labels(method, call.code).inc()
                self._call_seconds.labels(method).observe(time.perf_counter() - began)


class Call:
    """How a gRPC call ends."""

    code = "OK"


class _QueueCollector(Collector):
    """What is looked up in Redis at each scrape; every front end tells the same."""

    def __init__(self, query: Query) -> None:
        self._query = query

    def describe(self) -> list[Metric]:
        """Nothing ahead of a scrape: registering must not need Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Queue lengths, workers and webhooks; without Redis, only that it is down."""
        try:
            models, workers = self._query.models(), self._query.workers()
            webhooks, unreadable = self._query.webhooks(), self._query.unreadable()
        except ServiceError:
            yield GaugeMetricFamily("hidiffusion_redis_up", "Whether Redis answers.", value=0)
            return
        yield GaugeMetricFamily("hidiffusion_redis_up", "Whether Redis answers.", value=1)
        queued = GaugeMetricFamily(
            "hidiffusion_queued_generations", "Generations that wait.", labels=("model",)
        )
        warm = GaugeMetricFamily(
            "hidiffusion_warm_workers", "Workers that hold a model ready.", labels=("model",)
        )
        for status in models:
            queued.add_metric((status.model.name,), status.queued)
            warm.add_metric((status.model.name,), status.warm_workers)
        states = GaugeMetricFamily(
            "hidiffusion_workers", "Workers whose heartbeat is recent.", labels=("state",)
        )
        for state, count in Tally(worker.state for worker in workers).items():
            states.add_metric((state,), count)
        yield from (queued, warm, states, *_webhooks(webhooks))
        yield GaugeMetricFamily(
            "hidiffusion_unreadable_records",
            "Records of another version that this one cannot read.",
            value=unreadable,
        )


def _webhooks(figures: WebhookFigures) -> Iterator[Metric]:
    """Counted in Redis, because any number of processes deliver."""
    attempts = CounterMetricFamily(
        "hidiffusion_webhook_attempts", "Attempts to deliver, ended.", labels=("outcome",)
    )
    attempts.add_metric(("delivered",), figures.delivered)
    attempts.add_metric(("failed",), figures.failed_attempts)
    ended = CounterMetricFamily(
        "hidiffusion_webhook_deliveries", "Webhooks delivered or given up.", labels=("outcome",)
    )
    ended.add_metric(("delivered",), figures.delivered)
    ended.add_metric(("dead",), figures.given_up)
    yield from (attempts, ended)
    yield GaugeMetricFamily(
        "hidiffusion_webhooks_waiting", "Webhooks that wait for an attempt.", value=figures.waiting
    )
    yield GaugeMetricFamily(
        "hidiffusion_webhooks_dead", "Webhooks that are not tried any more.", value=figures.dead
    )
    yield GaugeMetricFamily(
        "hidiffusion_webhook_oldest_seconds",
        "How long the oldest webhook that waits has waited.",
        value=figures.oldest_seconds,
    )
