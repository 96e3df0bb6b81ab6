"""What benchmarks ask of the service over HTTP, and how they compare what it made."""

import io
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def wait_until_made(client: httpx.Client, record: dict[str, Any]) -> None:
    """Follow a generation's events to the last one.

    Args:
        client: of the service.
        record: as `POST /v1/generations` answered it.

    Raises:
        RuntimeError: it ended otherwise.
    """
    with client.stream("GET", record["links"]["events"]) as events:
        final = [line for line in events.iter_lines() if line.startswith("event: ")][-1]
    if final != "event: succeeded":
        raise RuntimeError(f"a generation ended with {final!r}")


def picture_of(client: httpx.Client, record: dict[str, Any]) -> bytes:
    """Returns the picture of a generation that has one."""
    return client.get(f"{record['links']['self']}/image").raise_for_status().content


def difference(one: bytes, other: bytes) -> int:
    """Returns the largest difference of two pictures in any channel, of 255."""
    first, second = (_pixels(data) for data in (one, other))
    return int(np.abs(first - second).max())


def _pixels(data: bytes) -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(data)), np.int16)
