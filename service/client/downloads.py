"""Plan of a download that goes on where it broke off, and is checked before it counts."""

import hashlib
from functools import partial
from pathlib import Path

from service.client.errors import (
    ClientError,
    DownloadCorruptedError,
    UnreachableError,
    error_of,
)
from service.client.messages import Call
from service.client.models import Artifact
from service.client.operations import get, result_of
from service.client.plans import Open, Plan, Read, RetryPolicy, Run, pause_or_raise


class _Part:
    """What has arrived so far: a file beside the target, named after the picture's content."""

    def __init__(self, target: Path, picture: Artifact) -> None:
        self._target, self._picture = target, picture
        self._path = target.with_name(f"{target.name}.{picture.sha256[:16]}.part")

    def begin(self) -> int:
        """Make sure there is a file; returns how many bytes it holds."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        size = self._path.stat().st_size
        return size if size <= self._picture.bytes else self.clear()

    def clear(self) -> int:
        """Begin anew."""
        self._path.write_bytes(b"")
        return 0

    def append(self, chunk: bytes) -> None:
        """Add what arrived."""
        with self._path.open("ab") as file:
            file.write(chunk)

    def finish(self) -> bool:
        """Put the file in its place when it is the picture, else throw it away."""
        with self._path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self._picture.sha256:
            self._path.unlink()
            return False
        self._path.replace(self._target)
        return True


def download(generation_id: str, target: Path, retry: RetryPolicy) -> Plan[Path]:
    """Write the full-size picture to `target`, which holds all of it or is not touched.

    Raises:
        ClientError: there is no picture, or the service is out of reach for too long.
        DownloadCorruptedError: what arrived has another SHA-256, twice.
    """
    generation = yield from get(generation_id, retry)
    picture = result_of(generation).image
    part = _Part(target, picture)
    for _ in range(2):
        yield from _fetch(part, picture, retry)
        if (yield Run(part.finish)):
            return target
    raise DownloadCorruptedError(
        f"the picture of {generation_id} arrived with another SHA-256 than {picture.sha256}, twice"
    )


def _fetch(part: _Part, picture: Artifact, retry: RetryPolicy) -> Plan[None]:
    offset: int = yield Run(part.begin)
    failures = 0
    while offset < picture.bytes:
        try:
            call = Call("GET", picture.href, headers={"Range": f"bytes={offset}-"})
            reply = yield Open(call)
            error = error_of(reply)
            if error is not None:
                raise error
            if reply.status != 206:
                offset = yield Run(part.clear)
            while chunk := (yield Read()):
                yield Run(partial(part.append, chunk))
                offset, failures = offset + len(chunk), 0
            if offset < picture.bytes:
                raise UnreachableError(f"the download of {picture.href} broke off too often")
        except ClientError as error:
            failures += 1
            yield from pause_or_raise(retry, failures, error)
