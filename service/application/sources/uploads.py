"""Take pictures in, keep them for a while, and find those that requests name.

A request names a picture by the id of an upload, by that of a generation whose result it is, by an
https URL, or holds it as a data URL; all but the first become an upload when the request is
accepted. Nothing is stored before it was decoded, and each tenant has its own.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from ulid import ULID

from service.application.ports import Clock, ObjectInfo, ObjectStore
from service.application.sources.elsewhere import Elsewhere, is_generation_id, is_url
from service.domain.artifacts import MEDIA_TYPES
from service.domain.errors import FieldViolation, InvalidRequest, NotFound, UploadNotFound
from service.domain.requests.uploads import BadPicture, Picture, Upload, is_upload_id, upload_key

#: What a picture inside a request begins with.
DATA = "data:"
_BASE64 = ";base64"


class UploadRecords(Protocol):
    """What is known of uploads. Raises `Unavailable` when unreachable."""

    def find(self, tenant: str, upload_id: str) -> Upload | None:
        """The tenant's upload of this id, or None."""
        ...

    def keep(self, tenant: str, upload: Upload) -> None:
        """Record an upload until it expires, in place of an earlier record."""
        ...

    def forget(self, tenant: str, upload_id: str) -> bool:
        """Forget an upload; returns whether there was one."""
        ...


class Pictures(Protocol):
    """Reads pictures."""

    def __call__(self, data: bytes, *, ours: bool = False) -> Picture:
        """Decode and clean a file, of any length if it is `ours`; raises `BadPicture`."""
        ...

    def clear_parts(self, picture: Picture) -> Picture | None:
        """A mask that is white where a picture is transparent; None where it nowhere is."""
        ...


@dataclass(frozen=True)
class Given:
    """A picture that a request names, decoded or known from before; sizes in pixels.

    Attributes:
        id: of its upload, whether that is stored already or not.
        source: the upload, or the picture that becomes one.
    """

    id: str
    width: int
    height: int
    source: Upload | Picture


class Uploads:
    """The pictures of one tenant.

    Args:
        records: what is known of them.
        store: where they are.
        read: decodes and cleans files.
        clock: tells when they expire.
        ttl_seconds: how long one is kept since it was last sent or used.
        tenant: whose they are.
        check_storage: raises `StorageFull` when no more may be stored.
        elsewhere: where pictures come from that are named by where they are; None: nowhere.
    """

    def __init__(
        self,
        records: UploadRecords,
        store: ObjectStore,
        read: Pictures,
        clock: Clock,
        ttl_seconds: float,
        *,
        tenant: str = "",
        check_storage: Callable[[], None] = lambda: None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._records = records
        self._store = store
        self._read = read
        self._clock = clock
        self._lifetime = timedelta(seconds=ttl_seconds)
        self._tenant = tenant
        self._check_storage = check_storage
        self._elsewhere = elsewhere

    def add(self, data: bytes, field: str = "file") -> Upload:
        """Take a picture in; one that is there already is kept for longer.

        Raises:
            InvalidRequest: naming `field`, when `data` is no picture that is taken.
            StorageFull: it is new, and the key allows no more.
            Unavailable, StoreError: it could not be stored.
        """
        return self._keep(self._decoded(data, field))

    def add_for_edit(
        self, image: bytes, mask: bytes | None, image_field: str = "image"
    ) -> tuple[str, str | None]:
        """Take in a picture, and a mask that is transparent where it is to be drawn anew.

        Without a mask, the picture's own transparent parts are; without these, all of it is.

        Returns:
            The ids of the picture and of a mask as requests have it, white where this is clear.

        Raises:
            InvalidRequest: naming `image_field` or `mask`, one is no picture that is taken, or the
                mask is opaque.
            Unavailable, StoreError: they could not be stored.
        """
        picture = self._decoded(image, image_field)
        clear = self._read.clear_parts(picture if mask is None else self._decoded(mask, "mask"))
        if mask is not None and clear is None:
            rule = "it must be transparent where the picture is to be edited"
            raise InvalidRequest([FieldViolation("mask", "an opaque picture", rule)])
        if clear is not None and clear.mask_range[0] == 255:
            if mask is not None:
                rule = "it is transparent everywhere; leave it out to draw all of the picture anew"
                raise InvalidRequest([FieldViolation("mask", "an empty picture", rule)])
            clear = None
        return self._keep(picture).id, None if clear is None else self._keep(clear).id

    def get(self, upload_id: str) -> Upload:
        """What is known of an upload; raises `UploadNotFound`."""
        upload = self._find(upload_id)
        if upload is None:
            raise UploadNotFound(upload_id)
        return upload

    def file(self, upload_id: str) -> ObjectInfo:
        """The stored picture; raises `UploadNotFound`."""
        upload = self.get(upload_id)
        try:
            return self._store.head(upload.key)
        except NotFound:
            raise UploadNotFound(upload_id) from None

    def delete(self, upload_id: str) -> None:
        """Forget an upload; accepted generations keep the use of it. Raises `UploadNotFound`."""
        if not (is_upload_id(upload_id) and self._records.forget(self._tenant, upload_id)):
            raise UploadNotFound(upload_id)

    def open(self, references: Mapping[str, str]) -> dict[str, Given]:
        """Find or decode each picture that a request names, by field; nothing is stored yet.

        Raises:
            InvalidRequest: naming every field whose picture is unknown or no good.
        """
        given, violations = {}, []
        for field, reference in references.items():
            try:
                given[field] = self._open(field, reference)
            except InvalidRequest as error:
                violations += error.violations
        if violations:
            raise InvalidRequest(violations)
        return given

    def keep(self, given: Mapping[str, Given]) -> dict[str, str]:
        """Store what is not stored yet, and keep the rest for longer.

        Returns:
            The object key of each picture, by its id.
        """
        kept: dict[str, str] = {}
        for each in given.values():
            if each.id not in kept:
                kept[each.id] = self._keep(each.source).key
        return kept

    def _open(self, field: str, reference: str) -> Given:
        picture = self._picture(field, reference)
        if picture is not None:
            return Given(picture.id, picture.width, picture.height, picture)
        upload = self._find(reference)
        if upload is None:
            rule = (
                "give an upload's id, a generation's, an https URL or a data URL; no upload has "
                "this id, or it has expired: upload the picture again"
            )
            raise InvalidRequest([FieldViolation(field, _shown(reference), rule)])
        return Given(upload.id, upload.width, upload.height, upload)

    def _picture(self, field: str, reference: str) -> Picture | None:
        """The picture that a reference holds or leads to; None where it names an upload."""
        if reference.startswith(DATA):
            return self._decoded(_bytes_of(reference, field), field)
        if self._elsewhere is None:
            return None
        try:
            if is_generation_id(reference):
                return self._read(self._elsewhere.drawn(reference), ours=True)
            if is_url(reference):
                return self._read(self._elsewhere.fetch(reference))
        except BadPicture as error:
            raise InvalidRequest([FieldViolation(field, _shown(reference), str(error))]) from None
        return None

    def _find(self, upload_id: str) -> Upload | None:
        return self._records.find(self._tenant, upload_id) if is_upload_id(upload_id) else None

    def _decoded(self, data: bytes, field: str) -> Picture:
        try:
            return self._read(data)
        except BadPicture as error:
            value = f"a file of {len(data)} bytes"
            raise InvalidRequest([FieldViolation(field, value, str(error))]) from None

    def _keep(self, source: Upload | Picture) -> Upload:
        now = self._clock.now()
        expires = now + self._lifetime
        known = self._records.find(self._tenant, source.id)
        if known is not None:
            upload = known.model_copy(update={"expires_at": expires})
        elif isinstance(source, Upload):
            upload = source.model_copy(update={"expires_at": expires})
        else:
            self._check_storage()
            key = upload_key(self._tenant, source.id, str(ULID()))
            self._store.put(key, source.png, MEDIA_TYPES["png"])
            upload = Upload(
                id=source.id,
                key=key,
                width=source.width,
                height=source.height,
                bytes=len(source.png),
                mask_range=source.mask_range,
                created_at=now,
                expires_at=expires,
            )
        self._records.keep(self._tenant, upload)
        return upload


def _bytes_of(url: str, field: str) -> bytes:
    """The bytes in a data URL (RFC 2397); what it says of their type is not believed."""
    head, comma, body = url.partition(",")
    try:
        if not comma or not head.endswith(_BASE64):
            raise ValueError
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error):
        rule = "a data URL must read data:image/png;base64, and then valid base64"
        raise InvalidRequest([FieldViolation(field, _shown(url), rule)]) from None


def _shown(text: str, limit: int = 80) -> str:
    return repr(text) if len(text) <= limit else repr(text[:limit] + "…")
