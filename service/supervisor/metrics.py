"""The figures of one worker, for Prometheus.

The supervisor counts for its pipeline process too: it sees every event, and outlives the process.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.application.ports import WorkerInfo
from service.domain.generations.events import (
    Event,
    Failed,
    Stepped,
    Succeeded,
    TileStored,
    status_after,
)
from service.domain.generations.generation import Generation

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
        self._running: dict[str, _Running] = {}

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
        self._running[generation.id] = _Running(generation)
        if generation.attempt == 1 and generation.started_at is not None:
            waited = (generation.started_at - generation.created_at).total_seconds()
            self._waits.labels(generation.request.model).observe(max(waited, 0.0))

    def heard(self, generation_id: str, event: Event) -> None:
        """The pipeline process told of an event of a generation."""
        running = self._running.get(generation_id)
        if running is None or event.attempt != running.generation.attempt:
            return
        model = running.generation.request.model
        match event:
            case Stepped():
                self._observe_step(running, event)
            case TileStored():
                self._tiles.labels(model).inc()
            case Failed():
                self._failures.labels(model, event.error.reason).inc()
            case Succeeded():
                self._observe_success(running, event)
        if status_after(event).final:
            running.outcome = event.type

    def ended(self, generation_id: str) -> None:
        """An attempt is over; without a final event it was interrupted."""
        running = self._running.pop(generation_id)
        self._attempts.labels(running.generation.request.model, running.outcome).inc()

    def _observe_step(self, running: "_Running", step: Stepped) -> None:
        if running.last_step is not None:
            seconds = (step.at - running.last_step.at).total_seconds()
            self._steps.labels(running.generation.request.model).observe(max(seconds, 0.0))
        running.last_step = step

    def _observe_success(self, running: "_Running", event: Succeeded) -> None:
        model, started = running.generation.request.model, running.generation.started_at
        if running.last_step is not None:
            seconds = (event.at - running.last_step.at).total_seconds()
            self._decodes.labels(model).observe(max(seconds, 0.0))
        if started is not None:
            self._durations.labels(model).observe(max((event.at - started).total_seconds(), 0.0))


@dataclass
class _Running:
    """An attempt that runs, and what it has told so far."""

    generation: Generation
    last_step: Stepped | None = None
    outcome: str = "interrupted"


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
