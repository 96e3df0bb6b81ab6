"""A request and its answer, free of any HTTP library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """One HTTP request."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None


@dataclass(frozen=True)
class Reply:
    """One HTTP response; of a good answer to `Open`, the content is still to be read."""

    status: int
    headers: Mapping[str, str]
    content: bytes
