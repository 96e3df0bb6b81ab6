"""Bytes under keys, in a folder, in memory or in a bucket, through one library (obstore).

A put is atomic in all of them: a folder's file is written beside its place and renamed, memory is
swapped, and S3, Google and Azure show an object when its upload is complete. A manifest goes into a
folder when the disk has all that lies beside it, so a result that exists survives a power cut. The
media type follows from the key's extension, so it is the same everywhere and a folder needs no
second file to remember it.
"""

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import LocalStore, MemoryStore

from service.application.ports import ObjectInfo, ObjectStore
from service.domain.artifacts import EXTENSIONS, MEDIA_TYPES
from service.domain.errors import NotFound, StoreError, Unavailable
from service.settings import BUCKETS, StoreSettings
from service.storage.durability import sync_tree
from service.storage.providers import Bucket, open_bucket

_MEDIA_TYPE_OF = {
    "json": "application/json",
    **{EXTENSIONS[name]: media_type for name, media_type in MEDIA_TYPES.items()},
}
_UNKNOWN_MEDIA_TYPE = "application/octet-stream"

#: Writing ends with these and deletion starts with them, so that no manifest ever promises what is
#: not there.
_MANIFEST_NAME = "/manifest.json"

#: Written over and over, to see whether the store takes what is written.
_PROBE_KEY = "probe/readiness"

#: How obstore words a failure that may pass: nobody answered, or the answer was 429 or 5xx.
#: A folder whose disk or quota is used up: whoever keeps the service makes room.
_FULL = re.compile(r"os error (28|122)\b|No space left|Disk quota exceeded")

#: A bucket or container that is not there, as S3, Azure and GCS word it.
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket (does not exist|not found)", re.I)

_PASSING = re.compile(r"HTTP error|status code: (429|5\d\d)|after \d+ retries")


def open_store(settings: StoreSettings) -> ObjectStore:
    """Open the store that `settings.url` names.

    Raises:
        ValueError: the URL is none of file://, memory://, s3://, gs:// and az://, or the file of
            the credentials cannot be read.
        StoreError: the folder cannot be created.
    """
    url = urlsplit(settings.url)
    path = unquote(url.path)
    if url.scheme == "file" and url.netloc in {"", "localhost"} and path:
        with _translated("open", settings.url):
            return _Objects(LocalStore(path, mkdir=True, automatic_cleanup=True), folder=Path(path))
    if url.scheme == "memory":
        return _Objects(MemoryStore())
    if url.scheme in BUCKETS and url.netloc:
        public = settings.public_endpoint
        with _translated("open", settings.url):
            inner = open_bucket(settings, url, settings.endpoint)
            signer = open_bucket(settings, url, public) if public else None
        return _Objects(inner, signer=signer)
    raise ValueError(
        f"the store URL {settings.url!r} names no store; set HIDIFFUSION_STORE__URL to "
        "file:///absolute/folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix "
        "or memory:///"
    )


def media_type_of(key: str) -> str:
    """The media type that the key's extension stands for."""
    return _MEDIA_TYPE_OF.get(key.rpartition(".")[2], _UNKNOWN_MEDIA_TYPE)


class _Objects(ObjectStore):
    """The `ObjectStore` port over any obstore store."""

    def __init__(
        self,
        store: LocalStore | MemoryStore | Bucket,
        *,
        signer: Bucket | None = None,
        folder: Path | None = None,
    ) -> None:
        self._store = store
        self._signer = signer
        self._folder = folder

    def put(self, key: str, data: bytes, media_type: str) -> ObjectInfo:
        if media_type != media_type_of(key):
            raise ValueError(
                f"key {key!r} stands for {media_type_of(key)!r}, not {media_type!r}; "
                "use the extension of the media type"
            )
        attributes = None if self._folder else {"Content-Type": media_type}
        try:
            with _translated("write", key), self._durable(key):
                result = self._store.put(key, data, attributes=attributes)
        except NotFound as error:
            raise StoreError(f"there is no place to write {key!r}: {error.detail}") from error
        written = datetime.now(UTC)  # asking the store would double the requests
        return ObjectInfo(key, len(data), media_type, result["e_tag"] or "", written)

    def get(self, key: str) -> bytes:
        with _translated("read", key):
            return bytes(self._store.get(key).bytes())

    def get_range(self, key: str, start: int, end: int) -> bytes:
        with _translated("read", key):
            return bytes(self._store.get_range(key, start=start, end=end))

    def head(self, key: str) -> ObjectInfo:
        with _translated("look up", key):
            meta = self._store.head(key)
        return ObjectInfo(
            key=key,
            size=meta["size"],
            media_type=media_type_of(key),
            etag=meta["e_tag"] or "",
            modified=meta["last_modified"],
        )

    def keys(self, prefix: str) -> list[str]:
        return sorted(self.sizes(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        folder = prefix.rpartition("/")[0]
        with _translated("list", prefix):
            found = [meta for batch in self._store.list(folder or None) for meta in batch]
        return {meta["path"]: meta["size"] for meta in found if meta["path"].startswith(prefix)}

    def delete_prefix(self, prefix: str) -> int:
        keys = self.keys(prefix)
        manifests = [key for key in keys if key.endswith(_MANIFEST_NAME)]
        self._delete(manifests)
        self._delete([key for key in keys if not key.endswith(_MANIFEST_NAME)])
        return len(keys)

    def presign(self, key: str, expires_seconds: int) -> str | None:
        if self._signer is None:
            return None
        with _translated("sign", key):
            return obstore.sign(self._signer, "GET", key, timedelta(seconds=expires_seconds))

    def ping(self) -> None:
        if self._folder and not self._folder.is_dir():
            raise Unavailable("store", f"the folder {str(self._folder)!r} is gone")
        self.put(_PROBE_KEY, b"written by the readiness check", _UNKNOWN_MEDIA_TYPE)

    @contextlib.contextmanager
    def _durable(self, key: str) -> Iterator[None]:
        """Where the block puts a manifest into a folder: what is beside it first, then itself."""
        if self._folder is None or not key.endswith(_MANIFEST_NAME):
            yield
            return
        manifest = self._folder / key
        sync_tree(manifest.parent, self._folder)
        yield
        sync_tree(manifest, self._folder)

    def _delete(self, keys: list[str]) -> None:
        try:
            with _translated("delete", keys[0] if keys else ""):
                self._store.delete(keys)
        except NotFound:  # a folder stops at the first key that somebody else deleted meanwhile
            for key in keys:
                with contextlib.suppress(NotFound), _translated("delete", key):
                    self._store.delete(key)


@contextlib.contextmanager
def _translated(action: str, key: str) -> Iterator[None]:
    """Turn what obstore raises into the service's own errors."""
    try:
        yield
    except FileNotFoundError as error:
        if _NO_BUCKET.search(str(error)):
            raise StoreError(
                f"cannot {action} {key!r}: the bucket does not exist; create it or correct "
                "HIDIFFUSION_STORE__URL"
            ) from error
        raise NotFound(f"nothing is stored under {key!r}") from error
    except (BaseError, OSError) as error:
        reason = str(error).partition("\n")[0]
        if _FULL.search(str(error)):
            raise Unavailable("store", f"it is full: cannot {action} {key!r}", 60) from error
        if isinstance(error, GenericError) and _PASSING.search(reason):
            raise Unavailable("store", f"cannot {action} {key!r}: {reason}") from error
        raise StoreError(f"the store refused to {action} {key!r}: {reason}") from error
