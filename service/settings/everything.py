"""All settings together: from the environment, and back into that of a child process."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from service.catalog.file import read_catalog
from service.domain.models.catalog import Catalog
from service.settings.environment import PREFIX, check_lists, check_variables
from service.settings.sections import (
    ApiSettings,
    RedisSettings,
    RetentionSettings,
    WebhookSettings,
    WorkerSettings,
)
from service.settings.store import StoreSettings
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
        """Read the catalogue once; what has to know of changes uses a `CatalogFile`.

        Raises:
            ValueError: the file is missing or breaks a rule of `Catalog`.
        """
        return read_catalog(self.catalog)

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
