"""All settings together: from the environment, and back into that of a child process."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from service.domain.catalog import Catalog, Model
from service.settings.environment import PREFIX, check_lists, check_variables
from service.settings.sections import (
    ApiSettings,
    RedisSettings,
    RetentionSettings,
    StoreSettings,
    WebhookSettings,
    WorkerSettings,
)
from service.telemetry import LogFormat


class Settings(BaseSettings):
    """All settings together."""

    model_config = SettingsConfigDict(
        env_prefix="HIDIFFUSION_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    redis: RedisSettings = RedisSettings()
    store: StoreSettings = StoreSettings()
    api: ApiSettings = ApiSettings()
    worker: WorkerSettings = WorkerSettings()
    retention: RetentionSettings = RetentionSettings()
    webhooks: WebhookSettings = WebhookSettings()
    catalog: Path = Field(
        Path("models/catalog.json"), description="JSON file of the models on offer."
    )
    log_level: str = Field("INFO", description="Lowest level that is logged.")
    log_format: LogFormat = Field(
        "auto", description="json: one document a line; auto: console on a terminal, else json."
    )
    log_prompts: bool = Field(False, description="Whether accepted prompts are logged.")
    tracing_endpoint: str | None = Field(
        None,
        description="OTLP/HTTP collector of traces, such as http://127.0.0.1:4318; unset: as "
        "OTEL_EXPORTER_OTLP_ENDPOINT says, else none.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment, where there may be no variable that nobody reads."""
        del settings_cls, dotenv_settings, file_secret_settings
        known = dict(cls.variables())
        check_variables(os.environ, known)
        check_lists(os.environ, [name for name, field in known.items() if _is_list(field)])
        return init_settings, env_settings

    @classmethod
    def variables(cls) -> Iterator[tuple[str, FieldInfo]]:
        """Every setting with the environment variable that holds it, in the order above."""
        for name, field in cls.model_fields.items():
            section = _section(field)
            for inner, setting in section.model_fields.items() if section else ():
                yield _variable(f"{name}__{inner}"), setting
            if section is None:
                yield _variable(name), field

    def load_catalog(self) -> Catalog:
        """Read the catalogue; a relative `source` is a path beside the catalogue file.

        Raises:
            ValueError: the file is missing or breaks a rule of `Catalog`.
        """
        try:
            text = self.catalog.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(
                f"cannot read the model catalogue {str(self.catalog)!r} ({error.strerror}); "
                "set HIDIFFUSION_CATALOG to a JSON file like models/catalog.json"
            ) from None
        catalog = Catalog.model_validate_json(text)
        folder = self.catalog.resolve().parent
        return Catalog(models=tuple(_located(model, folder) for model in catalog.models))

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, to hand to a child process."""
        return dict(_flatten("HIDIFFUSION", self.model_dump()))


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is tuple


def _located(model: Model, folder: Path) -> Model:
    located: dict[str, Any] = {"source": _source(model.source, folder)}
    for kind in ("loras", "embeddings", "controls"):
        located[kind] = tuple(
            entry.model_copy(update={"source": _source(entry.source, folder)})
            for entry in getattr(model, kind)
        )
    if model.ip_adapter is not None:
        source = _source(model.ip_adapter.source, folder)
        located["ip_adapter"] = model.ip_adapter.model_copy(update={"source": source})
    return model.model_copy(update=located)


def _source(source: str, folder: Path) -> str:
    """Absolute, where it lies beside the catalogue; else it is a hub id or absolute already."""
    local = folder / source
    return str(local) if local.exists() else source


def _flatten(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        joint = "_" if name == "HIDIFFUSION" else "__"
        for key, inner in value.items():
            yield from _flatten(f"{name}{joint}{key.upper()}", inner)
    elif isinstance(value, SecretStr):
        yield name, value.get_secret_value()
    elif isinstance(value, tuple):
        yield name, json.dumps(value)
    elif value is not None:
        yield name, str(value)
