"""Pictures that clients hand in, to start from or to be guided by."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

#: Begin of the keys of all uploads.
UPLOADS_PREFIX = "uploads/"

#: Formats that can be read.
FORMATS = ("png", "jpeg", "webp")

#: Begin of every upload's id; the rest is the SHA-256 of the stored picture.
ID_PREFIX = "img_"

_ID = re.compile(ID_PREFIX + r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Picture:
    """A decoded picture, written anew: what is stored of an upload.

    Attributes:
        png: the file, 8 bits per channel, sRGB, with or without alpha, and nothing else in it.
        width: in pixels.
        height: in pixels.
        mask_range: least and most of luminance times alpha, 0 to 255: what it is as a mask.
    """

    png: bytes
    width: int
    height: int
    mask_range: tuple[int, int] = (0, 255)

    @property
    def id(self) -> str:
        """Its name, which follows from its content alone."""
        return ID_PREFIX + hashlib.sha256(self.png).hexdigest()


class Upload(BaseModel):
    """The record of one upload of one tenant; `width` and `height` in pixels."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(examples=["img_" + "0f" * 32])
    key: str
    width: int
    height: int
    bytes: int
    mask_range: tuple[int, int] = (0, 255)
    created_at: datetime
    expires_at: datetime


class BadPicture(ValueError):
    """What was handed in is no picture that is taken; the message says why, and what is."""


def is_upload_id(text: str) -> bool:
    """Whether an upload could have this id."""
    return _ID.fullmatch(text) is not None


def upload_key(tenant: str, upload_id: str, unique: str) -> str:
    """Object key of an upload; `unique` tells it from an earlier one of the same content."""
    return f"{UPLOADS_PREFIX}{tenant or '-'}/{upload_id}/{unique}.png"


def owner_of(key: str) -> tuple[str, str]:
    """Tenant and id of the upload that an object key was made for."""
    _, tenant, upload_id, _ = key.split("/")
    return "" if tenant == "-" else tenant, upload_id
