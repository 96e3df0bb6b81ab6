"""Every setting of the service, read from the environment with the prefix `HIDIFFUSION_`.

One class per concern; nothing is read at import. Nested names are joined by two underscores:
`HIDIFFUSION_REDIS__URL`, `HIDIFFUSION_STORE__URL`, `HIDIFFUSION_API__HTTP_PORT`.
"""

from service.settings.everything import Settings
from service.settings.sections import (
    ApiSettings,
    RedisSettings,
    RetentionSettings,
    WebhookSettings,
    WorkerSettings,
)
from service.settings.store import BUCKETS, StoreSettings

__all__ = [
    "BUCKETS",
    "ApiSettings",
    "RedisSettings",
    "RetentionSettings",
    "Settings",
    "StoreSettings",
    "WebhookSettings",
    "WorkerSettings",
]
