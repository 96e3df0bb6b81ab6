"""The settings of each concern, one class for each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from service.domain.requests.uploads import FORMATS
from service.settings.base import Section


class RedisSettings(Section):
    """Where Redis is, and how long records live in it."""

    url: str = Field("redis://127.0.0.1:6379/0", description="redis:// or rediss:// URL.")
    replicas: int = Field(
        0,
        ge=0,
        description="Replicas that must have an accepted generation before its client is told; 0: "
        "a crash of the primary may lose what its replica had not heard of.",
    )
    record_ttl_seconds: int = Field(
        7 * 24 * 3600,
        description="Lifetime of a final generation's record and events, unless asked for less.",
    )
    idempotency_ttl_seconds: int = Field(24 * 3600, description="Lifetime of idempotency keys.")
    event_limit: int = Field(20_000, description="Events kept per generation.")
    event_ttl_seconds: int = Field(
        4 * 3600,
        ge=60,
        description="Lifetime of a generation's events once it is final; its record tells the end.",
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What logs and error messages show: a password in the URL is left out."""
        for name, value in super().__repr_args__():
            yield name, without_password(value) if name == "url" else value


def without_password(url: str) -> str:
    """A URL with stars in the place of its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)


class RetentionSettings(Section):
    """What is deleted from the store, besides what clients delete.

    The age at which results end is `HIDIFFUSION_REDIS__RECORD_TTL_SECONDS`.
    """

    max_bytes: int | None = Field(
        None, description="Budget of the store in bytes: the oldest results go first; null: none."
    )
    disk: Path | None = Field(
        None,
        description="Folder on the store's disk; the budget is then `disk_share` of what is free "
        "there and what the store holds together.",
    )
    disk_share: float = Field(
        0.9, gt=0, le=1, description="Part of the disk that the store may fill, 0 to 1."
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

    @model_validator(mode="after")
    def _budget_is_given_once(self) -> Self:
        if self.max_bytes is not None and self.disk is not None:
            raise ValueError("max_bytes and disk are two ways to say one thing; set either")
        if self.disk is not None and not self.disk.is_dir():
            raise ValueError(f"disk is {str(self.disk)!r}, and there is no such folder")
        return self


class ApiSettings(Section):
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
        "",
        description="URL clients reach HTTP by, with a path where a proxy serves it under one; "
        "links begin with it when set.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        ("127.0.0.1", "::1"),
        description="Addresses and networks of proxies whose X-Forwarded-For and -Proto are "
        "believed.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Host names that requests may come for, besides addresses, names without a "
        "dot and that of the public URL; empty: these, or any where keys are asked for.",
    )
    max_connections: int = Field(
        4000,
        ge=1,
        description="HTTP connections at a time, and half as many of gRPC; fewer where the "
        "system allows fewer.",
    )
    max_connections_per_address: int = Field(
        200,
        ge=1,
        description="Connections of one address, each of HTTP and gRPC; proxies and this host "
        "may more.",
    )
    drain_seconds: float = Field(
        0.0,
        ge=0,
        description="Time from SIGTERM, while it serves on and `/readyz` says no, to the end of "
        "streams; a second signal, or Ctrl+C, ends it. 0: none, for a service without a balancer.",
    )
    redirect_tiles: bool = Field(
        False,
        description="Whether tiles, previews and thumbnails too are fetched from the store by "
        "presigned URLs; viewers of other sites then need its leave (CORS).",
    )
    a1111_api: bool = Field(True, description="Whether A1111's API is served under /sdapi/v1 too.")
    max_body_bytes: int = Field(1024 * 1024, description="Longest request body accepted.")
    max_upload_bytes: int = Field(20 * 1024 * 1024, description="Longest picture file accepted.")
    max_upload_pixels: int = Field(25_000_000, description="Most pixels of an uploaded picture.")
    upload_formats: tuple[str, ...] = Field(
        FORMATS, description="Formats of uploaded pictures: png, jpeg, webp."
    )
    fetch_pictures: bool = Field(
        True, description="Whether requests may name pictures by https URL, to be fetched."
    )
    fetch_targets: tuple[str, ...] = Field(
        (), description="Hosts and networks besides public addresses that they are fetched from."
    )
    fetch_seconds: float = Field(10.0, description="Longest that fetching a picture may take.")
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


class WebhookSettings(Section):
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


class WorkerSettings(Section):
    """One worker: a supervisor and its pipeline process."""

    device: str = Field("auto", description="torch device, or auto: cuda when there is one.")
    dtype: str = Field("auto", description="torch dtype, or auto: float16 on cuda, else float32.")
    models: tuple[str, ...] = Field((), description="Models to serve; empty: the whole catalogue.")
    compile: str | None = Field(
        None,
        description="torch.compile backend for U-Nets, such as inductor; unset: none. With "
        "preload, a model's default request is compiled before the worker takes jobs.",
    )
    attention: str | None = Field(
        None,
        description="diffusers' backend for the attention of U-Nets and transformers, such as "
        "_native_cudnn, flash, _flash_3 or sage; unset: torch chooses.",
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
