"""Every setting of the service, read from the environment with the prefix `HIDIFFUSION_`.

One class per concern; nothing is read at import. Nested names are joined by two underscores:
`HIDIFFUSION_REDIS__URL`, `HIDIFFUSION_STORE__URL`, `HIDIFFUSION_API__HTTP_PORT`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.domain.catalog import Catalog, Model
from service.domain.uploads import FORMATS
from service.telemetry import LogFormat


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RedisSettings(_Section):
    """Where Redis is, and how long records live in it."""

    url: str = Field("redis://127.0.0.1:6379/0", description="redis:// or rediss:// URL.")
    record_ttl_seconds: int = Field(
        7 * 24 * 3600,
        description="Lifetime of a final generation's record and events, unless asked for less.",
    )
    idempotency_ttl_seconds: int = Field(24 * 3600, description="Lifetime of idempotency keys.")
    event_limit: int = Field(20_000, description="Events kept per generation.")


class StoreSettings(_Section):
    """Where results go: `file:///folder` or `s3://bucket/prefix`.

    `memory:///` also works, within one process: for tests of the front ends.
    """

    url: str = Field(
        "file:///var/lib/hidiffusion",
        description="file://folder or s3://bucket/prefix; workers and API must both reach it.",
    )
    endpoint: str | None = Field(None, description="S3 endpoint, for stores other than AWS.")
    region: str = Field("us-east-1", description="S3 region.")
    access_key_id: str | None = Field(None, description="S3 access key; default: AWS's own chain.")
    secret_access_key: SecretStr | None = Field(None, description="S3 secret key.")
    public_endpoint: str | None = Field(
        None, description="S3 endpoint as clients see it; presigned URLs are offered when set."
    )


class RetentionSettings(_Section):
    """What is deleted from the store, besides what clients delete.

    The age at which results end is `HIDIFFUSION_REDIS__RECORD_TTL_SECONDS`.
    """

    max_bytes: int | None = Field(
        None, description="Budget of the store in bytes: the oldest results go first; null: none."
    )
    grace_seconds: float = Field(
        3600.0, description="Time from the end of a record to the deletion of its objects."
    )
    upload_ttl_seconds: int = Field(
        24 * 3600, description="Lifetime of an uploaded picture since it was last sent or used."
    )
    interval_seconds: int = Field(
        600, description="Time between two sweeps of the store by the API; 0: it never sweeps."
    )


class ApiSettings(_Section):
    """The two front ends."""

    host: str = Field("127.0.0.1", description="Address both front ends listen on.")
    http_port: int = Field(8000, description="HTTP port; 0 takes a free one.")
    grpc_port: int = Field(50051, description="gRPC port; 0 takes a free one.")
    tls_certificate: Path | None = Field(
        None, description="PEM file of both front ends' certificate chain; unset: no TLS."
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of authorities; clients need a certificate by one of them."
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="Origins whose pages may call the API from a browser; empty: none."
    )
    key_file: Path | None = Field(
        None, description="JSON file of API keys; unset: everybody may do everything."
    )
    public_url: str = Field(
        "", description="URL clients reach HTTP by; links in webhooks begin with it when set."
    )
    max_connections: int = Field(
        4000, ge=1, description="HTTP connections at a time; fewer where the system allows fewer."
    )
    max_connections_per_address: int = Field(
        200, ge=1, description="HTTP connections of one address; proxies and this host may more."
    )
    max_body_bytes: int = Field(1024 * 1024, description="Longest request body accepted.")
    max_upload_bytes: int = Field(20 * 1024 * 1024, description="Longest picture file accepted.")
    max_upload_pixels: int = Field(25_000_000, description="Most pixels of an uploaded picture.")
    upload_formats: tuple[str, ...] = Field(
        FORMATS, description="Formats of uploaded pictures: png, jpeg, webp."
    )
    max_wait_seconds: int = Field(60, description="Longest `Prefer: wait=N` honoured.")
    image_wait_seconds: float = Field(
        570.0, description="Longest that `POST /v1/images/generations` waits for its pictures."
    )

    @model_validator(mode="after")
    def _certificate_is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together; set both or neither")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca asks clients for certificates; set tls_certificate too")
        return self


class WebhookSettings(_Section):
    """Calls to clients whose generations are final."""

    secret_file: Path | None = Field(
        None, description="JSON file of each tenant's signing secrets; unset: no webhooks."
    )
    allowed_targets: tuple[str, ...] = Field(
        (),
        description="Hosts, addresses and networks that may be called, also by http, though they "
        "are not public.",
    )
    timeout_seconds: int = Field(10, ge=1, description="Longest that one delivery may take.")
    max_attempts: int = Field(12, ge=1, description="Attempts before a webhook is dead.")
    first_delay_seconds: float = Field(
        5.0, description="Time to the second attempt; it triples with each, and varies by a half."
    )
    longest_delay_seconds: float = Field(
        12 * 3600.0, description="Longest time between two attempts."
    )


class WorkerSettings(_Section):
    """One worker: a supervisor and its pipeline process."""

    device: str = Field("auto", description="torch device, or auto: cuda when there is one.")
    dtype: str = Field("auto", description="torch dtype, or auto: float16 on cuda, else float32.")
    models: tuple[str, ...] = Field((), description="Models to serve; empty: the whole catalogue.")
    compile: str | None = Field(
        None,
        description="torch.compile backend for U-Nets, such as inductor; unset: none. With "
        "preload, a model's default request is compiled before the worker takes jobs.",
    )
    checker: str | None = Field(
        None,
        description="What looks at each picture before anybody sees it, as module:attribute; "
        "unset: nothing does.",
    )
    preload: bool = Field(True, description="Load and warm every model before taking jobs.")
    warm_up_seconds: float = Field(
        900.0, description="A pipeline process that is not ready after this long is replaced."
    )
    stall_seconds: float = Field(
        60.0,
        description="A pipeline process without any sign of life for this long is replaced; one "
        "without progress after ten times the longest silence of those like it, at least this.",
    )
    memory_bytes: int | None = Field(
        None, description="Device memory for weights and runs together; default: what is free."
    )
    metrics_host: str = Field("127.0.0.1", description="Address a worker's /metrics listens on.")
    metrics_port: int | None = Field(
        None, description="Port of a worker's /metrics, which needs no key; unset: none."
    )
    max_batch: int = Field(
        1,
        ge=1,
        description="Most waiting generations of one kind that are drawn together; 1: each alone.",
    )
    job_timeout_seconds: int = Field(
        1800, description="Longest run of one attempt; requests may ask for less."
    )
    max_attempts: int = Field(3, description="Attempts before a generation fails for good.")
    overtake_seconds: float = Field(
        60.0,
        description="How long a worker passes over what it would have to load for what it has.",
    )
    cold_delay_seconds: float = Field(
        2.0, description="How long to leave a generation to an idle worker that needs no loading."
    )
    unplaceable_seconds: float = Field(
        120.0, description="A generation that no live worker has memory for fails after this long."
    )
    heartbeat_seconds: float = Field(5.0, description="Interval of a worker's heartbeats.")
    heartbeat_ttl_seconds: float = Field(
        20.0, description="A worker silent for this long is dead; its job is queued again."
    )
    cancel_grace_seconds: float = Field(
        4.0, description="A pipeline process that has not stopped after this long is replaced."
    )
    drain_grace_seconds: float = Field(
        30.0, description="Longest time from SIGTERM to the end: a job finishes or is put aside."
    )
    checkpoint_every_steps: int = Field(
        5, description="Denoising steps between checkpoints, at least; 0: none."
    )
    checkpoint_every_seconds: float = Field(
        10.0, description="Time between checkpoints, at least: both have to pass."
    )
    store_wait_seconds: float = Field(
        3600.0, description="How long a result waits for a store that takes nothing; then it fails."
    )
    preview_every: int = Field(
        5, description="Denoising steps between previews; the last step has one too. 0: none."
    )
    tile_size: int = Field(512, description="Tile side in pixels.")
    tile_overlap: int = Field(1, description="Overlap of neighbouring tiles in pixels.")


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
