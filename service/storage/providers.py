"""Buckets and containers of the providers, each by its own settings."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import SplitResult, unquote

from obstore.store import AzureStore, GCSStore, S3Store

from service.settings import StoreSettings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

Bucket: TypeAlias = S3Store | GCSStore | AzureStore

#: Connection trouble, 5xx and 429 are retried with backoff and jitter, for this long at most.
_RETRY: "RetryConfig" = {
    "max_retries": 4,
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=2),
        "base": 2,
    },
    "retry_timeout": timedelta(seconds=20),
}
_CONNECT_TIMEOUT = timedelta(seconds=3)
_REQUEST_TIMEOUT = timedelta(seconds=30)


def open_bucket(settings: StoreSettings, url: SplitResult, endpoint: str | None) -> Bucket:
    """The bucket that an s3://, gs:// or az:// URL names, at an endpoint (None: the provider's).

    Raises:
        ValueError: the file of the credentials cannot be read or holds none.
    """
    kinds: dict[str, Callable[..., Bucket]] = {"s3": _s3, "gs": _gcs, "az": _azure}
    client: ClientConfig = {
        "allow_http": bool(endpoint and endpoint.startswith("http://")),
        "connect_timeout": _CONNECT_TIMEOUT,
        "timeout": _REQUEST_TIMEOUT,
    }
    common: dict[str, Any] = {
        "prefix": unquote(url.path).strip("/") or None,
        "client_options": client,
        "retry_config": _RETRY,
    }
    return kinds[url.scheme](settings, url.netloc, endpoint, common)


def _s3(
    settings: StoreSettings, bucket: str, endpoint: str | None, common: dict[str, Any]
) -> S3Store:
    options: dict[str, Any] = {"region": settings.region}
    if endpoint:
        options["endpoint"] = endpoint
    if settings.access_key_id:
        options["access_key_id"] = settings.access_key_id
    if secret := settings.secret():
        options["secret_access_key"] = secret
    return S3Store(bucket, virtual_hosted_style_request=endpoint is None, **options, **common)


def _gcs(
    settings: StoreSettings, bucket: str, endpoint: str | None, common: dict[str, Any]
) -> GCSStore:
    options: dict[str, Any] = {"base_url": endpoint} if endpoint else {}
    if key := settings.google_key():
        options["service_account_key"] = key
    return GCSStore(bucket, **options, **common)


def _azure(
    settings: StoreSettings, container: str, endpoint: str | None, common: dict[str, Any]
) -> AzureStore:
    options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    if key := settings.azure_key():
        options["account_key"] = key
    return AzureStore(container, account_name=settings.azure_account, **options, **common)
