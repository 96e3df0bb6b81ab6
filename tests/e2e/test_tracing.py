"""Traces and logs of a whole service: one trace through every process, and no secret in either."""

import secrets
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import httpx
import pytest

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1 import generation_service_pb2_grpc as stubs
from service.application.access import new_key
from service.cli.embedded import Embedded, embedded_service
from service.domain.access import Scope
from service.settings import ApiSettings, Settings, WorkerSettings
from service.storage.key_file import KeyFile
from tests.otlp_collector import Collector, Received, otlp_collector
from tests.pipeline_process import pipeline_of

STEPS = 3
PROMPT = "an utterly confidential lighthouse"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with otlp_collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[tuple[Embedded, str]]:
    """A service that asks for keys and traces what it does, and a key."""
    folder = tmp_path_factory.mktemp("traced")
    key, token = new_key("acme", (Scope.READ, Scope.WRITE), datetime.now(UTC))
    KeyFile(folder / "keys.json").add(key)
    settings = Settings(
        api=ApiSettings(http_port=0, grpc_port=0, key_file=folder / "keys.json"),
        worker=WorkerSettings(preload=False),
        tracing_endpoint=collector.url,
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with embedded_service(folder / "data", settings) as running:
            running.wait_until_ready()
            yield running, token


class Client:
    """A client with a trace of its own, over either interface."""

    def __init__(self, service: Embedded, token: str) -> None:
        self.trace_id, self.span_id = secrets.token_hex(16), secrets.token_hex(8)
        self._service = service
        self._headers = {
            "authorization": f"Bearer {token}",
            "traceparent": f"00-{self.trace_id}-{self.span_id}-01",
        }
        self._fields = {"prompt": PROMPT, "num_inference_steps": STEPS, "seed": 7}
        self.http = httpx.Client(
            base_url=service.url, headers={"authorization": f"Bearer {token}"}, timeout=60
        )

    def create_by_http(self, **fields: Any) -> str:
        body = self._fields | {"width": 256, "height": 256, "method": "direct"} | fields
        response = self.http.post("/v1/generations", json=body, headers=self._headers)
        assert response.status_code == 202, response.text
        generation_id: str = response.json()["id"]
        return generation_id

    def create_by_grpc(self) -> str:
        request = rpc.CreateGenerationRequest(
            **self._fields, width=256, height=256, method="direct"
        )
        with grpc.insecure_channel(self._service.grpc_address) as channel:
            stub = stubs.GenerationServiceStub(channel)
            created = stub.CreateGeneration(request, metadata=tuple(self._headers.items()))
        generation_id: str = created.generation.id
        return generation_id

    def record(self, generation_id: str) -> dict[str, Any]:
        record: dict[str, Any] = self.http.get(f"/v1/generations/{generation_id}").json()
        return record

    def finish(self, generation_id: str) -> dict[str, Any]:
        while (record := self.record(generation_id))["finished_at"] is None:
            time.sleep(0.2)
        assert record["status"] == "succeeded", record
        return record


@pytest.fixture
def client(traced: tuple[Embedded, str]) -> Iterator[Client]:
    made = Client(*traced)
    with made.http:
        yield made


def _parents(spans: list[Received]) -> set[tuple[str, str]]:
    """Which kind of span lies within which; the client's own span is not among those that came."""
    names = {span.span_id: span.name for span in spans}
    return {(span.name, names.get(span.parent_id, "client")) for span in spans}


@pytest.mark.slow
@pytest.mark.parametrize("interface", ["http", "grpc"])
def test_one_trace_goes_through_every_process(
    client: Client, collector: Collector, interface: str
) -> None:
    by_http = interface == "http"
    generation_id = client.create_by_http() if by_http else client.create_by_grpc()
    client.finish(generation_id)
    request = "POST /v1/generations" if by_http else "CreateGeneration"
    spans = collector.wait_for(
        client.trace_id, request, "accept", "queue", "attempt", "encode", "manifest", "generate"
    )

    assert _parents(spans) == {
        (request, "client"),
        ("accept", request),
        ("queue", "accept"),
        ("attempt", "accept"),
        ("generate", "attempt"),
        ("load", "generate"),
        ("denoise", "generate"),
        ("step", "denoise"),
        ("decode", "generate"),
        ("tile", "decode"),
        ("encode", "generate"),
        ("manifest", "generate"),
    }
    (arrived,) = (span for span in spans if span.name == request)
    assert arrived.parent_id == client.span_id
    counts = Counter(span.name for span in spans)
    assert counts["step"] == STEPS
    assert counts["tile"] == 9
    assert {name: n for name, n in counts.items() if name not in {"step", "tile"} and n != 1} == {}
    processes = {span.name: span.process for span in spans}
    assert processes["accept"] == "hidiffusion-api"
    assert processes["attempt"] == "hidiffusion-supervisor"
    assert processes["tile"] == "hidiffusion-pipeline"
    by_id = {span.span_id: span for span in spans}
    for span in spans:
        assert span.begin <= span.end
        assert not span.failed
        if span.parent_id in by_id and span.process == "hidiffusion-pipeline":
            assert by_id[span.parent_id].begin <= span.begin
    (attempt,) = (span for span in spans if span.name == "attempt")
    assert attempt.attributes == {
        "hidiffusion.generation.id": generation_id,
        "hidiffusion.attempt": 1,
        "hidiffusion.model": "fluent-emoji-256",
        "hidiffusion.method": "direct",
        "hidiffusion.width": 256,
        "hidiffusion.height": 256,
        "hidiffusion.steps": STEPS,
        "hidiffusion.outcome": "succeeded",
    }


@pytest.mark.slow
def test_a_killed_attempt_and_the_next_are_in_one_trace(
    traced: tuple[Embedded, str], client: Client, collector: Collector
) -> None:
    pipeline = pipeline_of(traced[0])
    generation_id = client.create_by_http(num_inference_steps=50)
    while client.record(generation_id)["progress"]["step"] < 2:
        time.sleep(0.02)
    pipeline.kill()
    client.finish(generation_id)
    spans = collector.wait_for(
        client.trace_id, "accept", "attempt", "attempt", "manifest", "generate"
    )

    (accepted,) = (span for span in spans if span.name == "accept")
    lost, second = (span for span in spans if span.name == "attempt")
    assert (lost.failed, lost.attributes["hidiffusion.outcome"]) == (True, "lost")
    assert (second.failed, second.attributes["hidiffusion.outcome"]) == (False, "succeeded")
    assert [span.attributes["hidiffusion.attempt"] for span in (lost, second)] == [1, 2]
    assert lost.parent_id == second.parent_id == accepted.span_id
    (generated,) = (span for span in spans if span.name == "generate")
    assert generated.parent_id == second.span_id


@pytest.mark.slow
def test_neither_logs_nor_traces_hold_keys_or_prompts(
    traced: tuple[Embedded, str], client: Client, collector: Collector
) -> None:
    service, token = traced
    generation_id = client.create_by_http()
    client.finish(generation_id)
    spans = collector.wait_for(client.trace_id, "attempt", "generate")
    refused = client.http.post("/v1/generations", json={"prompt": PROMPT, "width": -1})
    assert refused.status_code == 422

    logs = b"".join(path.read_bytes() for path in (service.data / "logs").iterdir())
    told = b"".join(collector.bodies)
    for found in (logs, told):
        assert generation_id.encode() in found
        assert PROMPT.encode() not in found
        assert token.encode() not in found
        assert token.split("_", 2)[2].encode() not in found
    assert spans[0].trace_id.encode() in logs
