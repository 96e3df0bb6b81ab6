"""A pipeline process takes on what the catalogue says now, and keeps warm what has not changed."""

import json
from pathlib import Path
from typing import Any

from service.worker.weights.pipelines import Pipelines
from tests.service.worker.conftest import child_settings


def _write(path: Path, models: list[dict[str, Any]]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"models": models}))
    new.replace(path)


def test_entries_come_change_and_go(catalog: Path, tmp_path: Path) -> None:
    tiny = json.loads(catalog.read_text())["models"][0]
    tiny["source"] = str(catalog.parent / "tiny")
    path = tmp_path / "catalog.json"
    _write(path, [tiny])
    pipelines = Pipelines(child_settings(path, tmp_path))
    pipelines.get("tiny")

    _write(path, [tiny | {"title": "Renamed"}, tiny | {"name": "new"}])
    pipelines.refresh()
    assert pipelines.get("tiny").model.title == "Renamed"
    assert pipelines.loads == 1  # the weights are the same
    assert pipelines.get("new").model.name == "new"

    _write(path, [tiny | {"name": "new", "variant": "fp16"}])
    pipelines.refresh()
    assert pipelines.names == ()


def test_a_scheduler_has_its_variants_and_the_changes_of_the_catalogue(
    catalog: Path, tmp_path: Path
) -> None:
    tiny = json.loads(catalog.read_text())["models"][0]
    changes = {"timestep_spacing": "trailing"}
    tiny |= {"source": str(catalog.parent / "tiny"), "scheduler_config": changes}
    _write(tmp_path / "catalog.json", [tiny])
    warm = Pipelines(child_settings(tmp_path / "catalog.json", tmp_path)).get("tiny")

    warm.use_scheduler("DPMSolverMultistepScheduler+sde+karras")

    config = warm.pipe.scheduler.config
    assert (config.use_karras_sigmas, config.algorithm_type) == (True, "sde-dpmsolver++")
    assert config.timestep_spacing == "trailing"
    warm.use_scheduler("DPMSolverMultistepScheduler")
    assert not warm.pipe.scheduler.config.use_karras_sigmas
