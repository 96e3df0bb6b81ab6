"""Settings come from the environment and survive the way to a child process."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.domain.models.catalog import Model
from service.settings import RedisSettings, Settings


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


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("HIDIFFUSION_API__HTPP_PORT", "HIDIFFUSION_API__HTTP_PORT"),
        ("HIDIFFUSION_REDIS_URL", "HIDIFFUSION_REDIS__URL"),
        ("HIDIFFUSION_CATALOGUE", "HIDIFFUSION_CATALOG"),
        ("HIDIFFUSION_WORKERS__MODELS", "HIDIFFUSION_WORKER__MODELS"),
        ("hidiffusion_log_levle", "HIDIFFUSION_LOG_LEVEL"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_known_one(
    wrong: str, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wrong, "1")
    with pytest.raises(ValueError, match=f"{wrong} is no setting; did you mean {right}?"):
        Settings()


def test_a_variable_like_no_other_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDIFFUSION_ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ", "1")
    with pytest.raises(ValueError, match="`hidiffusion settings` lists all"):
        Settings()


def test_what_kubernetes_sets_for_a_service_called_hidiffusion_is_let_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "HIDIFFUSION_SERVICE_HOST": "10.0.0.1",
        "HIDIFFUSION_API_SERVICE_HOST": "10.0.0.1",
        "HIDIFFUSION_API_SERVICE_PORT": "8000",
        "HIDIFFUSION_API_SERVICE_PORT_HTTP": "8000",
        "HIDIFFUSION_API_PORT": "tcp://10.0.0.1:8000",
        "HIDIFFUSION_API_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "HIDIFFUSION_API_PORT_8000_TCP_PROTO": "tcp",
        "HIDIFFUSION_API_PORT_8000_TCP_PORT": "8000",
        "HIDIFFUSION_API_PORT_8000_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    assert Settings().api.http_port == 8000


def test_a_disk_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDIFFUSION_RETENTION__DISK", "/none")
    with pytest.raises(ValidationError, match="there is no such folder"):
        Settings()


def test_a_list_that_is_none_is_told_how_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDIFFUSION_WORKER__MODELS", "a, b")
    with pytest.raises(ValueError, match=r"HIDIFFUSION_WORKER__MODELS is 'a, b'.*JSON"):
        Settings()


def test_the_secret_of_the_store_may_lie_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    monkeypatch.setenv("HIDIFFUSION_STORE__SECRET_ACCESS_KEY_FILE", str(file))
    assert Settings().store.secret() == "s3cret"
    assert "s3cret" not in str(Settings().environment())

    file.write_text("\n")
    with pytest.raises(ValueError, match=r"SECRET_ACCESS_KEY_FILE: .* is empty"):
        Settings().store.secret()
    file.unlink()
    with pytest.raises(ValueError, match=r"SECRET_ACCESS_KEY_FILE: .* cannot be read"):
        Settings().store.secret()
    monkeypatch.setenv("HIDIFFUSION_STORE__SECRET_ACCESS_KEY", "another")
    with pytest.raises(ValidationError, match="set either"):
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


def test_passwords_are_not_shown() -> None:
    settings = Settings(redis=RedisSettings(url="rediss://user:hush@redis.example:6379/0"))
    assert "hush" not in repr(settings) + str(settings)
    assert "rediss://user:***@redis.example" in repr(settings)
    assert "hush" in settings.environment()["HIDIFFUSION_REDIS__URL"]
