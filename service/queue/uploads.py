"""The `UploadRecords` port: what is known of uploads, in Redis."""

from service.domain.uploads import Upload
from service.events.connection import TextClient, unavailable_when_down
from service.queue.keys import upload_key


class RedisUploads:
    """Uploads as JSON documents that expire.

    Args:
        client: a client that answers in text.
    """

    def __init__(self, client: TextClient) -> None:
        self._redis = client

    def find(self, tenant: str, upload_id: str) -> Upload | None:
        """The tenant's upload of this id, or None."""
        with unavailable_when_down():
            text = self._redis.get(upload_key(upload_id, tenant))
        return None if text is None else Upload.model_validate_json(text)

    def keep(self, tenant: str, upload: Upload) -> None:
        """Record an upload until it expires, in place of an earlier record."""
        with unavailable_when_down():
            self._redis.set(
                upload_key(upload.id, tenant), upload.model_dump_json(), exat=upload.expires_at
            )

    def forget(self, tenant: str, upload_id: str) -> bool:
        """Forget an upload; returns whether there was one."""
        with unavailable_when_down():
            return bool(self._redis.delete(upload_key(upload_id, tenant)))
