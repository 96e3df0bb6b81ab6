"""Traces: what one request led to, from a front end through the queue to every step and tile.

Off unless a collector is named; each span then costs a look and nothing more. The context of a
trace travels as W3C `traceparent` and `tracestate`: in HTTP headers and gRPC metadata, in the
record of a generation while it waits, and with it to the pipeline process.

A span names what was worked at and how it ended. Prompts never become attributes, and of an
exception only the type: its text may quote what a client sent.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.domain.generations.generation import Generation

#: What becomes of the trace context where it leaves a process: header names and values.
TraceContext = dict[str, str]

Attributes = Mapping[str, str | int]

_W3C = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("hidiffusion.service")

#: How long a process that has to go waits for its last spans to be taken.
_FLUSH_SECONDS = 1.0


def configure_tracing(process: str, endpoint: str | None) -> None:
    """Send spans to a collector, if one is named here or by OpenTelemetry's own variables.

    Args:
        process: what this process is, for the spans' `service.name`.
        endpoint: base URL of an OTLP/HTTP collector.

    Raises:
        ValueError: a collector is named and the packages of the extra `tracing` are missing.
    """
    if not (endpoint or _named_by_environment()):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ValueError(
            f"traces are to go to {endpoint or 'OTEL_EXPORTER_OTLP_ENDPOINT'!r} but OpenTelemetry "
            "is not installed; install the extra 'tracing', or unset the collector"
        ) from None
    name = os.environ.get("OTEL_SERVICE_NAME") or f"hidiffusion-{process}"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def enabled() -> bool:
    """Whether spans go anywhere."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextlib.contextmanager
def span(
    name: str,
    within: Mapping[str, str] | None = None,
    attributes: Attributes = MappingProxyType({}),
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    failing: tuple[type[Exception], ...] = (Exception,),
) -> Iterator[Span]:
    """A span for the length of the block.

    Args:
        name: of few values: no ids.
        within: the context it belongs to; None: the current one.
        attributes: their names go behind `hidiffusion.`.
        kind: SERVER where a request arrives.
        failing: exceptions that mark it as failed when they leave the block.
    """
    if not enabled():
        yield trace.INVALID_SPAN
        return
    with _tracer.start_as_current_span(
        name,
        None if within is None else _W3C.extract(within),
        kind,
        _named(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except failing as error:
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def _record(
    name: str, begin: int, within: Mapping[str, str] | None, attributes: Attributes
) -> None:
    """A span that ends now and began at `begin`, in nanoseconds since 1970."""
    if enabled():
        context = None if within is None else _W3C.extract(within)
        _tracer.start_span(name, context, attributes=_named(attributes), start_time=begin).end()


def begin_attempt(generation: Generation) -> Span:
    """The span of an attempt, to be ended by `finish`; the first comes after a span of the wait."""
    if not enabled():
        return trace.INVALID_SPAN
    if generation.attempt == 1:
        since = round(generation.created_at.timestamp() * 1e9)
        _record("queue", since, generation.trace_context, about(generation))
    context = _W3C.extract(generation.trace_context)
    return _tracer.start_span("attempt", context, attributes=_named(about(generation)))


def finish(attempt: Span, how: str, reason: str = "") -> None:
    """End the span of an attempt, unless it has ended; a `reason` marks it as failed."""
    if attempt.is_recording():
        attempt.set_attribute("hidiffusion.outcome", how)
        if reason:
            attempt.set_status(Status(StatusCode.ERROR, reason))
        attempt.end()


@contextlib.contextmanager
def within(context: Mapping[str, str]) -> Iterator[None]:
    """Let what happens inside the block belong to a context that came from elsewhere."""
    token = attach(_W3C.extract(context))
    try:
        yield
    finally:
        detach(token)


def current_context() -> TraceContext:
    """The context to hand on, so that what follows elsewhere belongs to the current span."""
    return context_of(trace.get_current_span())


def context_of(of: Span) -> TraceContext:
    """The context to hand on, so that what follows elsewhere belongs to a span."""
    carrier: TraceContext = {}
    if enabled():
        _W3C.inject(carrier, trace.set_span_in_context(of))
    return carrier


def about(generation: Generation) -> Attributes:
    """The attributes of a span that a generation is worked at in."""
    request = generation.request
    return {
        "generation.id": generation.id,
        "attempt": generation.attempt,
        "model": request.model,
        "method": request.method,
        "width": request.width,
        "height": request.height,
        "steps": request.num_inference_steps,
    }


def flush() -> None:
    """Hand over the last spans before a process leaves at once; a dead collector holds nobody."""
    provider = trace.get_tracer_provider()
    if enabled() and hasattr(provider, "force_flush"):
        thread = threading.Thread(target=provider.force_flush, daemon=True)
        thread.start()
        thread.join(_FLUSH_SECONDS)


class Laps:
    """Spans that follow each other without gaps, such as those of denoising steps.

    Args:
        within: the context they belong to; None: the current one.
    """

    def __init__(self, within: Mapping[str, str] | None = None) -> None:
        self._within = within
        # In whole nanoseconds: as seconds, a float would round a span to before its parent's begin.
        self._begin = time.time_ns()

    def record(self, name: str, attributes: Attributes) -> None:
        """A span from the end of the last one until now; the first begins with its parent."""
        opened: int = getattr(trace.get_current_span(), "start_time", None) or 0
        _record(name, max(self._begin, opened), self._within, attributes)
        self._begin = time.time_ns()


def _named_by_environment() -> bool:
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(os.environ.get(name) for name in names)


def _named(attributes: Attributes) -> Attributes:
    return {f"hidiffusion.{name}": value for name, value in attributes.items()}
