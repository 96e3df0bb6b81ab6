"""Request headers with a grammar of their own, read and written."""

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import cast, get_args

from service.application.requests.parse import parse_idempotency_key
from service.domain.access import Allowance
from service.domain.artifacts import MEDIA_TYPES, OutputFormat

_WAIT = re.compile(r'(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})"?', re.IGNORECASE)
_RANGE = re.compile(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.IGNORECASE)


class RangeNotSatisfiable(Exception):
    """The range begins beyond the end."""


def idempotency_key(header: str | None) -> str | None:
    """The key of an Idempotency-Key header.

    The draft standard writes it as a quoted structured-field string; most clients leave out the
    quotes. Both name the same key.

    Raises:
        InvalidRequest: the key is empty, too long or not printable ASCII.
    """
    if header is None:
        return None
    key = header.strip()
    if len(key) >= 2 and key.startswith('"') and key.endswith('"'):
        key = re.sub(r"\\([\"\\])", r"\1", key[1:-1])
    return parse_idempotency_key(key, "Idempotency-Key")


def preferred_wait(header: str | None) -> int | None:
    """Seconds of the `wait` preference (RFC 7240), or None; other preferences are ignored."""
    found = _WAIT.search(header or "")
    return int(found[1]) if found else None


def picture_format(header: str | None) -> OutputFormat | None:
    """The format of picture that an Accept header asks for before JSON, or None."""
    for part in (header or "").lower().split(","):
        media_type = part.partition(";")[0].strip()
        if media_type in {"application/json", "application/*", "*/*"}:
            return None
        if media_type == "image/*":
            return "png"
        for name in get_args(OutputFormat):
            if media_type == MEDIA_TYPES[name]:
                return cast("OutputFormat", name)
    return None


def leaving_cancels(header: str | None) -> bool:
    """Whether a Prefer header has our own preference `cancel-on-disconnect`."""
    preferences = (part.strip().lower() for part in (header or "").split(","))
    return "cancel-on-disconnect" in preferences


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and end (exclusive) of a Range header on `size` bytes; None: send everything.

    Several ranges, other units and malformed headers are ignored, as RFC 9110 section 14.2 allows.

    Raises:
        RangeNotSatisfiable: the range begins beyond the end.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        if length == 0:
            raise RangeNotSatisfiable
        return size - length, size
    first = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    if first >= size:
        raise RangeNotSatisfiable
    return first, min(last + 1, size)


def matches_etag(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names `etag`, compared weakly (RFC 9110 section 13.1.2)."""
    if header is None:
        return False
    candidates = {candidate.strip().removeprefix("W/") for candidate in header.split(",")}
    return "*" in candidates or etag in candidates


def range_still_valid(if_range: str | None, etag: str, modified: datetime) -> bool:
    """Whether If-Range allows a partial answer: the exact strong tag, or the exact date."""
    if if_range is None or if_range == etag:
        return True
    try:
        return parsedate_to_datetime(if_range) == modified.replace(microsecond=0)
    except (ValueError, TypeError):
        return False


def allowance_headers(allowance: Allowance) -> dict[str, str]:
    """How a key stands, as draft-ietf-httpapi-ratelimit-headers writes it."""
    name, quota = allowance.policy, f"{allowance.quota:g}"
    window = "" if name == "unfinished" else ";w=60"
    return {
        "ratelimit-policy": f'"{name}";q={quota}{window}',
        "ratelimit": f'"{name}";r={allowance.remaining};t={allowance.reset_seconds}',
    }


def http_date(moment: datetime) -> str:
    """`moment` as HTTP writes dates."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)
