"""The `UploadRecords` port: what is known of uploads, in Redis."""

import logging

from pydantic import ValidationError

from service.domain.uploads import Upload
from service.events.connection import TextClient, unavailable_when_down
from service.records.keys import STORED, STORED_UNTIL, upload_key
from service.records.stored import StoredBytes

_log = logging.getLogger(__name__)

#: Write the record of an upload and count its bytes, once however often it is written.
#:
#:     KEYS[1] = the record
#:     KEYS[2], KEYS[3] = `STORED` and `STORED_UNTIL` of the tenant
#:     ARGV[1] = id, ARGV[2] = bytes, ARGV[3] = Unix time at which it ends, ARGV[4] = the document
_KEEP = """
redis.call('SET', KEYS[1], ARGV[4], 'EXAT', ARGV[3])
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) == 1 then
  redis.call('HINCRBY', KEYS[2], 'total', ARGV[2])
end
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
"""


class RedisUploads:
    """Uploads as JSON documents that expire.

    Args:
        client: a client that answers in text.
    """

    def __init__(self, client: TextClient) -> None:
        self._redis = client
        self._stored = StoredBytes(client)
        self._keep = client.register_script(_KEEP)

    def find(self, tenant: str, upload_id: str) -> Upload | None:
        """The tenant's upload of this id, or None."""
        with unavailable_when_down():
            text = self._redis.get(upload_key(upload_id, tenant))
        return read_upload(text)

    def keep(self, tenant: str, upload: Upload) -> None:
        """Record an upload until it expires, in place of an earlier record."""
        keys = (upload_key(upload.id, tenant), STORED + tenant, STORED_UNTIL + tenant)
        ends = int(upload.expires_at.timestamp())
        with unavailable_when_down():
            self._keep(keys=keys, args=(upload.id, upload.bytes, ends, upload.model_dump_json()))

    def forget(self, tenant: str, upload_id: str) -> bool:
        """Forget an upload; returns whether there was one."""
        self._stored.forget(tenant, upload_id)
        with unavailable_when_down():
            return bool(self._redis.delete(upload_key(upload_id, tenant)))


def read_upload(text: str | None) -> Upload | None:
    """The upload in a document; one that this version cannot read is as good as none."""
    try:
        return None if text is None else Upload.model_validate_json(text)
    except ValidationError as error:
        _log.warning("passing over an upload of another version: %s", error)
        return None
