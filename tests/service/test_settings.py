"""Settings come from the environment and survive the way to a child process."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings


def test_a_childs_environment_gives_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDIFFUSION_STORE__SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("HIDIFFUSION_WORKER__MODELS", '["a", "b"]')
    settings = Settings()
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings
    assert settings.worker.models == ("a", "b")


def test_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDIFFUSION_STORE__SECRET_ACCESS_KEY", "s3cret")
    assert "s3cret" not in repr(Settings())


def test_an_unknown_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDIFFUSION_API__HTPP_PORT", "1")
    with pytest.raises(ValidationError, match="htpp_port"):
        Settings()


def test_a_relative_model_folder_is_found_beside_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    model = {
        "name": "tiny",
        "title": "Tiny",
        "source": "tiny",
        "native_size": 64,
        "default_size": 64,
        "default_scheduler": "DDIMScheduler",
        "default_method": "direct",
        "schedulers": ["DDIMScheduler"],
        "methods": ["direct"],
    }
    hub = {**model, "name": "hub", "source": "somebody/something"}
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps({"models": [model, hub]}))
    catalog = Settings(catalog=path).load_catalog()
    assert [m.source for m in catalog.models] == [str(tmp_path / "tiny"), "somebody/something"]


def test_a_missing_catalogue_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="HIDIFFUSION_CATALOG"):
        Settings(catalog=tmp_path / "none.json").load_catalog()
