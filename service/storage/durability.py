"""What a folder has to be told so that its files survive a power cut.

A file is safe when its bytes and its name are: `fsync` of the file, and of every folder on the way.
"""

import os
from pathlib import Path


def sync_tree(top: Path, root: Path) -> None:
    """Return when the disk has all below `top`, itself, and the way from `root` to it.

    Args:
        top: a folder, or a file.
        root: a folder above it, which is there to stay.

    Raises:
        OSError: the disk refused.
    """
    for folder, _, names in os.walk(top, topdown=False):
        for name in names:
            _sync(Path(folder, name))
        _sync(Path(folder))
    for path in (top, *top.parents):
        _sync(path)
        if path == root:
            return


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # deleted meanwhile: nothing to keep
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
