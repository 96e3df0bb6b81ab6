"""Figures: what is scraped tells what happened, and the dashboard asks for nothing else."""

import json
import re
from pathlib import Path

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from service.application.ports import WorkerInfo
from service.domain.generations.generation import Generation
from service.supervisor.metrics import WorkerMetrics
from tests.generations import make_generation, one_of_each
from tests.service.api.stack import Stack

DEPLOY = Path(__file__).parents[3] / "deploy"


def _figures(text: str) -> dict[tuple[str, ...], float]:
    """Samples by name and label values, in the order of the label names."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _scrape(stack: Stack) -> dict[tuple[str, ...], float]:
    response = stack.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return _figures(response.text)


def test_requests_and_calls_are_counted_by_route(stack: Stack) -> None:
    before = _scrape(stack)
    generation_id = stack.submit()
    stack.http.get(f"/v1/generations/{generation_id}")
    stack.http.get("/v1/generations/nobody")
    stack.http.get("/nothing/here")
    stack.stub.GetGeneration(rpc.GetGenerationRequest(id=generation_id))
    with pytest.raises(Exception, match="nobody"):
        stack.stub.GetGeneration(rpc.GetGenerationRequest(id="nobody"))
    after = _scrape(stack)

    def grown(*name: str) -> float:
        return after[name] - before.get(name, 0)

    requests, route = "hidiffusion_http_requests_total", "/v1/generations/{generation_id}"
    assert grown(requests, "POST", "/v1/generations", "202") == 1
    assert grown(requests, "GET", route, "200") == 1
    assert grown(requests, "GET", route, "404") == 1
    assert grown(requests, "GET", "none", "404") == 1
    assert grown("hidiffusion_http_response_seconds_count", "GET", route) == 2
    assert grown("hidiffusion_grpc_calls_total", "OK", "GetGeneration") == 1
    assert grown("hidiffusion_grpc_calls_total", "NOT_FOUND", "GetGeneration") == 1
    assert after["hidiffusion_http_open_requests",] == 1


def test_queues_and_workers_are_looked_up(stack: Stack) -> None:
    stack.submit()
    stack.submit()
    stack.add_worker()
    figures = _scrape(stack)

    assert figures["hidiffusion_queued_generations", "emoji"] == 2
    assert figures["hidiffusion_warm_workers", "emoji"] == 1
    assert figures["hidiffusion_workers", "idle"] == 1
    assert figures["hidiffusion_redis_up",] == 1


def _worker() -> WorkerMetrics:
    return WorkerMetrics(lambda: WorkerInfo("w", "busy", ("fox",), ("fox",), 3))


def _begun() -> Generation:
    made = make_generation()
    return made.model_copy(update={"attempt": 1, "started_at": made.created_at})


def test_a_worker_serves_its_figures() -> None:
    metrics = _worker()
    generation = _begun()
    for outcome in ("failed", "succeeded"):
        metrics.begun(generation)
        for event in one_of_each(generation):
            if event.type in {"step", "tile", outcome}:
                metrics.heard(generation.id, event)
        metrics.ended(generation.id)
    metrics.begun(generation)
    metrics.ended(generation.id)
    stop = metrics.serve("127.0.0.1", 0)
    try:
        text = httpx.get(f"http://127.0.0.1:{metrics.port}/metrics").text
    finally:
        stop()
    figures = _figures(text)

    assert figures["hidiffusion_queue_wait_seconds_count", "fox"] == 3
    assert figures["hidiffusion_tiles_total", "fox"] == 2
    assert figures["hidiffusion_failures_total", "fox", "OOM"] == 1
    for outcome in ("failed", "succeeded", "interrupted"):
        assert figures["hidiffusion_attempts_total", "fox", outcome] == 1
    assert figures["hidiffusion_decode_seconds_count", "fox"] == 1
    assert figures["hidiffusion_pipeline_loads_total",] == 3
    assert figures["hidiffusion_worker_busy",] == 1


def _names(registry_text: str) -> set[str]:
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {
        family.name + suffix
        for family in text_string_to_metric_families(registry_text)
        for suffix in suffixes[family.type]
    }


def test_the_dashboard_asks_for_figures_that_exist(stack: Stack) -> None:
    known = _names(stack.http.get("/metrics").text) | _names(_text(_worker().registry))
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "hidiffusion.json").read_text())
    queries = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]

    assert len(queries) >= 10
    for query in queries:
        used = set(re.findall(r"\bhidiffusion_\w+", query))
        assert used, query
        assert used <= known, query


def _text(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()
