"""Settings come from the environment and survive the way to a child process."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.domain.catalog import Model
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
    (tmp_path / "ink.safetensors").touch()
    hub = {**model, "name": "hub", "source": "somebody/something"}
    model["loras"] = [
        {"name": "ink", "source": "ink.safetensors"},
        {"name": "lcm", "source": "somebody/lcm"},
    ]
    model["embeddings"] = [{"token": "<w>", "source": "tiny", "file": "w.safetensors"}]
    model["ip_adapter"] = {"source": "tiny", "file": "ip-adapter.safetensors"}
    model["controls"] = [{"name": "canny", "source": "tiny"}]
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps({"models": [model, hub]}))
    catalog = Settings(catalog=path).load_catalog()
    assert [m.source for m in catalog.models] == [str(tmp_path / "tiny"), "somebody/something"]
    loras = catalog.models[0].loras
    assert [lora.source for lora in loras] == [str(tmp_path / "ink.safetensors"), "somebody/lcm"]
    assert catalog.models[0].embeddings[0].source == str(tmp_path / "tiny")
    adapter = catalog.models[0].ip_adapter
    assert adapter is not None
    assert adapter.source == str(tmp_path / "tiny")
    assert catalog.models[0].controls[0].source == str(tmp_path / "tiny")


@pytest.mark.parametrize(
    ("twice", "what"),
    [
        ({"loras": [{"name": "ink", "source": "a"}, {"name": "ink", "source": "b"}]}, "loras"),
        ({"controls": [{"name": "canny", "source": "a"}] * 2}, "controls"),
        ({"embeddings": [{"token": "<w>", "source": "a"}] * 2}, "embeddings"),
    ],
)
def test_a_name_is_given_once(twice: dict[str, object], what: str) -> None:
    model = Settings().load_catalog().default
    with pytest.raises(ValueError, match=f"two {what} of model 'fluent-emoji-256'"):
        Model.model_validate(model.model_dump() | twice)


def test_a_missing_catalogue_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="HIDIFFUSION_CATALOG"):
        Settings(catalog=tmp_path / "none.json").load_catalog()
