"""The `UploadRecords` port: what is known of uploads, in Redis."""

import logging

from pydantic import ValidationError

from service.domain.requests.uploads import Upload
from service.events.connection import TextClient, unavailable_when_down
from service.records.keys import STORED, STORED_UNTIL, UPLOADS_UNTIL, upload_key
from service.records.stored import StoredBytes

_log = logging.getLogger(__name__)

#: Write the record of an upload and count its bytes, once however often it is written.
#:
#:     KEYS[1] = the record
#:     KEYS[2] = object keys by the time they expire
#:     KEYS[3], KEYS[4], ... = `STORED` and `STORED_UNTIL` of everybody, and of the tenant
#:     ARGV[1] = object key, ARGV[2] = bytes, ARGV[3] = Unix time at which it ends
#:     ARGV[4] = the document, ARGV[5], ... = its name among everybody's, and the tenant's
_KEEP = """
redis.call('SET', KEYS[1], ARGV[4], 'EXAT', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
for i = 3, #KEYS, 2 do
  local name = ARGV[5 + (i - 3) / 2]
  if redis.call('HSETNX', KEYS[i], name, ARGV[2]) == 1 then
    redis.call('HINCRBY', KEYS[i], 'total', ARGV[2])
  end
  redis.call('ZADD', KEYS[i + 1], ARGV[3], name)
end
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
        names = _names(tenant, upload.id)
        keys = [upload_key(upload.id, tenant), UPLOADS_UNTIL]
        for owner in names:
            keys += [STORED + owner, STORED_UNTIL + owner]
        ends = int(upload.expires_at.timestamp())
        told = (upload.key, upload.bytes, ends, upload.model_dump_json(), *names.values())
        with unavailable_when_down():
            self._keep(keys=keys, args=told)

    def forget(self, tenant: str, upload_id: str) -> bool:
        """Forget an upload; returns whether there was one."""
        for owner, name in _names(tenant, upload_id).items():
            self._stored.forget(owner, name)
        known = self.find(tenant, upload_id)
        with unavailable_when_down():
            if known is not None:
                self._redis.zadd(UPLOADS_UNTIL, {known.key: 0})
            return bool(self._redis.delete(upload_key(upload_id, tenant)))


def _names(tenant: str, upload_id: str) -> dict[str, str]:
    """What an upload is called among everybody's, and among its tenant's, by owner."""
    everybody = {"": f"{tenant or '-'}/{upload_id}"}
    return everybody | ({tenant: upload_id} if tenant else {})


def read_upload(text: str | None) -> Upload | None:
    """The upload in a document; one that this version cannot read is as good as none."""
    try:
        return None if text is None else Upload.model_validate_json(text)
    except ValidationError as error:
        _log.warning("passing over an upload of another version: %s", error)
        return None
