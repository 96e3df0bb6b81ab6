"""A real worker process, scraped over HTTP."""

import httpx

from tests.generations import make_generation
from tests.servers import free_port
from tests.service.supervisor.waiting import wait_until


def test_the_supervisor_counts_what_its_pipeline_process_tells(start_worker, records):
    port = free_port()
    start_worker(metrics_port=port)
    generation = records.accept(make_generation("paint"), None)
    wait_until(lambda: records.get(generation.id).status.final, "an end")

    def figures() -> str:
        return httpx.get(f"http://127.0.0.1:{port}/metrics").text

    outcome = 'hidiffusion_attempts_total{model="fox",outcome="succeeded"} 1.0'
    wait_until(lambda: outcome in figures(), "a figure")
    assert 'hidiffusion_queue_wait_seconds_count{model="fox"} 1.0' in figures()
    assert 'hidiffusion_step_seconds_count{model="fox"} 2.0' in figures()
