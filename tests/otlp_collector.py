"""An OTLP/HTTP collector of traces: a real server that keeps what it is sent."""

import gzip
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE_SECONDS = 20


@dataclass(frozen=True)
class Received:
    """One span, as it came over the wire."""

    process: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    begin: int
    end: int
    failed: bool
    attributes: dict[str, str | int]


@dataclass
class Collector:
    """Where to send spans, and those that came."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)

    def spans(self, trace_id: str) -> list[Received]:
        """The spans of one trace that came so far."""
        found = [span for body in list(self.bodies) for span in _spans(body)]
        return [span for span in found if span.trace_id == trace_id]

    def wait_for(self, trace_id: str, *names: str) -> list[Received]:
        """The spans of one trace, once each name has come at least as often as it is given.

        Each process sends its own, in its own time.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            spans = self.spans(trace_id)
            if missing := Counter(names) - Counter(span.name for span in spans):
                assert time.monotonic() < deadline, f"{missing} did not come; {spans} did"
                time.sleep(0.1)
            else:
                return spans


@contextmanager
def otlp_collector() -> Iterator[Collector]:
    """A collector for the length of the block."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            found = self.path == "/v1/traces"
            if found:
                collector.bodies.append(body)
            self.send_response(200 if found else 404)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _spans(body: bytes) -> Iterator[Received]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        of_process = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    process=of_process["service.name"],
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    begin=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                    attributes={
                        each.key: each.value.string_value or each.value.int_value
                        for each in span.attributes
                    },
                )
