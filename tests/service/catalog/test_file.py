"""The catalogue is what its file says now."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.catalog.file import CatalogFile, read_catalog
from service.domain.models.catalog import Catalog

MODEL: dict[str, Any] = {
    "name": "tiny",
    "title": "Tiny",
    "source": "somebody/tiny",
    "native_size": 64,
    "default_size": 64,
    "default_scheduler": "DDIMScheduler",
    "default_method": "direct",
    "schedulers": ["DDIMScheduler"],
    "methods": ["direct"],
}


def _write(path: Path, *models: dict[str, Any]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"models": models}))
    new.replace(path)


def test_it_is_read_again_once_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "catalog.json"
    _write(path, MODEL)
    catalog = CatalogFile(path)
    assert catalog() is catalog()

    _write(path, MODEL, MODEL | {"name": "second", "aliases": ["dall-e-3"]})
    assert catalog().names == ("tiny", "second")
    found = catalog().find("dall-e-3")
    assert found is not None
    assert found.name == "second"

    with caplog.at_level(logging.ERROR):
        path.write_text("{")
        assert catalog().names == ("tiny", "second")
    assert "left aside" in caplog.text


def test_a_lora_that_is_dropped_is_offered_at_once(tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    _write(path, MODEL)
    catalog = CatalogFile(path)
    folder = tmp_path / "loras" / "tiny"
    folder.mkdir(parents=True)
    assert catalog().default.loras == ()

    (folder / "Ink & Wash.safetensors").touch()

    assert [lora.name for lora in catalog().default.loras] == ["ink-wash"]


def test_every_broken_rule_is_told(tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    _write(path, MODEL | {"default_steps": "many", "colour": "red"})

    with pytest.raises(ValueError, match="is not right") as caught:
        read_catalog(path)

    assert "models.0.default_steps" in str(caught.value)
    assert "models.0.colour" in str(caught.value)


def test_names_and_aliases_differ() -> None:
    with pytest.raises(ValidationError, match="twice there are tiny"):
        Catalog.model_validate({"models": [MODEL, MODEL | {"name": "x", "aliases": ["tiny"]}]})
