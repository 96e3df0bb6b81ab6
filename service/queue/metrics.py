"""The figures of one worker, for Prometheus.

The supervisor counts for its pipeline process too: it sees every event, and outlives the process.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.application.ports import WorkerInfo
from service.domain.events import Event, Failed, Stepped, Succeeded, TileStored, status_after
from service.domain.generation import Generation

#: Steps and decodes take from milliseconds on a small GPU picture to minutes on a CPU; seconds.
_STEP_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG_BUCKETS = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)


class WorkerMetrics:
    """What one worker counts.

    Args:
        describe: tells the worker's state when somebody asks.

    Attributes:
        port: where `serve` serves; 0 until it does.
    """

    def __init__(self, describe: Callable[[], WorkerInfo]) -> None:
        self.port = 0
        registry = CollectorRegistry()
        self.registry = registry
        model = ("model",)
        self._waits = Histogram(
            "hidiffusion_queue_wait_seconds",
            "From acceptance to the first attempt.",
            model,
            buckets=_LONG_BUCKETS,
            registry=registry,
        )
        self._steps = Histogram(
            "hidiffusion_step_seconds",
            "Between denoising steps.",
            model,
            buckets=_STEP_BUCKETS,
            registry=registry,
        )
        self._decodes = Histogram(
            "hidiffusion_decode_seconds",
            "From the last denoising step to the stored result.",
            model,
            buckets=_LONG_BUCKETS,
            registry=registry,
        )
        self._durations = Histogram(
            "hidiffusion_attempt_seconds",
            "From the begin of an attempt to its success.",
            model,
            buckets=_LONG_BUCKETS,
            registry=registry,
        )
        self._tiles = Counter("hidiffusion_tiles", "Tiles stored.", model, registry=registry)
        self._attempts = Counter(
            "hidiffusion_attempts", "Attempts ended.", (*model, "outcome"), registry=registry
        )
        self._failures = Counter(
            "hidiffusion_failures", "Failed generations.", (*model, "reason"), registry=registry
        )
        registry.register(_WorkerCollector(describe))
        self._generation: Generation | None = None
        self._last_step: Stepped | None = None
        self._outcome = ""

    def serve(self, host: str, port: int | None) -> Callable[[], None]:
        """Serve the figures at http://host:port/metrics, if there is a port.

        Returns:
            What stops that.

        Raises:
            OSError: the port is taken.
        """
        if port is None:
            return lambda: None
        server, thread = start_http_server(port, host, self.registry)
        self.port = server.server_port

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop

    def begun(self, generation: Generation) -> None:
        """An attempt begins."""
        self._generation, self._last_step, self._outcome = generation, None, "interrupted"
        if generation.attempt == 1 and generation.started_at is not None:
            waited = (generation.started_at - generation.created_at).total_seconds()
            self._waits.labels(generation.request.model).observe(max(waited, 0.0))

    def heard(self, event: Event) -> None:
        """The pipeline process told of `event`."""
        if self._generation is None or event.attempt != self._generation.attempt:
            return
        model = self._generation.request.model
        match event:
            case Stepped():
                self._observe_step(model, event)
            case TileStored():
                self._tiles.labels(model).inc()
            case Failed():
                self._failures.labels(model, event.error.reason).inc()
            case Succeeded():
                self._observe_success(model, event)
        if status_after(event).final:
            self._outcome = event.type

    def ended(self) -> None:
        """The attempt is over; without a final event it was interrupted."""
        if self._generation is not None:
            self._attempts.labels(self._generation.request.model, self._outcome).inc()
        self._generation = None

    def _observe_step(self, model: str, step: Stepped) -> None:
        if self._last_step is not None:
            seconds = (step.at - self._last_step.at).total_seconds()
            self._steps.labels(model).observe(max(seconds, 0.0))
        self._last_step = step

    def _observe_success(self, model: str, event: Succeeded) -> None:
        if self._last_step is not None:
            seconds = (event.at - self._last_step.at).total_seconds()
            self._decodes.labels(model).observe(max(seconds, 0.0))
        started = self._generation.started_at if self._generation else None
        if started is not None:
            self._durations.labels(model).observe(max((event.at - started).total_seconds(), 0.0))


class _WorkerCollector(Collector):
    """The worker's state, as it reports it to Redis."""

    def __init__(self, describe: Callable[[], WorkerInfo]) -> None:
        self._describe = describe

    def describe(self) -> list[Metric]:
        """Nothing ahead of a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Loads and evictions since the worker began, and whether it works now."""
        info = self._describe()
        yield CounterMetricFamily(
            "hidiffusion_pipeline_loads", "Pipelines loaded.", value=info.pipeline_loads
        )
        yield CounterMetricFamily(
            "hidiffusion_pipeline_evictions",
            "Pipelines dropped to make room.",
            value=info.pipeline_evictions,
        )
        yield GaugeMetricFamily(
            "hidiffusion_worker_busy", "Whether an attempt runs.", value=info.state == "busy"
        )
        yield GaugeMetricFamily(
            "hidiffusion_worker_warm_models", "Models loaded.", value=len(info.warm_models)
        )
