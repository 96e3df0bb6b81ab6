"""Download of the two npm packages that hold the pictures and their names."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """One pinned npm package.

    Args:
        spec: Name and version as npm spells them.
        archive: File name of the tarball.
        sha256: Hash of the tarball, in hexadecimal.
        wanted: Prefix of the members to unpack.
    """

    spec: str
    archive: str
    sha256: str
    wanted: str


PICTURES = Package(
    "@lobehub/fluent-emoji-3d@1.1.0",
    "lobehub-fluent-emoji-3d-1.1.0.tgz",
    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    "package/assets/",
)
NAMES = Package(
    "emoji-datasource-google@16.0.0",
    "emoji-datasource-google-16.0.0.tgz",
    "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    "package/emoji.json",
)
#: Where Google's Noto drawings, 64x64 pixels, lie in the tarball of `NAMES`.
NOTO_DRAWINGS = "package/img/google/64/"


def fetch(package: Package, folder: Path) -> Path:
    """Downloads a package, checks its hash and unpacks what is wanted, unless that was done.

    Args:
        package: The pinned package.
        folder: Where tarball and contents go.

    Returns:
        The unpacked `package.wanted` path.

    Raises:
        RuntimeError: npm is missing, or fails to fetch the package.
        ValueError: The tarball is not the pinned one.
    """
    archive = folder / package.archive
    target = folder / package.archive.removesuffix(".tgz")
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if not archive.exists():
            _download(package.spec, folder)
        _check_hash(archive, package.sha256)
        partial = target.with_name(f"{target.name}.partial")
        with tarfile.open(archive) as tar:
            members = [m for m in tar if m.name.startswith(package.wanted)]
            tar.extractall(partial, members=members, filter="data")
        partial.rename(target)
    return target / package.wanted


def _download(spec: str, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is not installed; install Node.js to fetch the training data")
    done = subprocess.run(
        [npm, "pack", spec, "--silent"], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"npm pack {spec!r} failed: {done.stderr.strip()}")


def _check_hash(archive: Path, expected: str) -> None:
    actual = hashlib.sha256(archive.read_bytes()).hexdigest()
    if actual != expected:
        raise ValueError(
            f"{archive} has sha256 {actual!r}, expected {expected!r}; delete it and fetch again"
        )
