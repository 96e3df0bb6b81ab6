"""What the disk is told before and after a manifest is put into a folder."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.application.ports import ObjectStore
from service.settings import StoreSettings
from service.storage.store import open_store

MANIFEST = "generations/01J/2/manifest.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def folder_store(root: Path) -> ObjectStore:
    return open_store(StoreSettings(url=root.as_uri()))


@pytest.fixture
def synced(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Each path that is synced, below the root, and whether the manifest was there by then."""
    told: list[tuple[str, bool]] = []
    fsync: Callable[[int], None] = os.fsync

    def watched(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        told.append((str(path.relative_to(root)), (root / MANIFEST).exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    return told


def test_all_of_a_result_is_on_the_disk_before_its_manifest(
    folder_store: ObjectStore, synced: list[tuple[str, bool]]
) -> None:
    keys = ["generations/01J/2/image.png", "generations/01J/2/tiles_files/3/0_0.png"]
    for key in keys:
        folder_store.put(key, b"pixels", "image/png")
    folder_store.put("generations/01J/1/image.png", b"an older attempt", "image/png")
    assert synced == []
    folder_store.put(MANIFEST, b"{}", "application/json")
    before = [path for path, manifest_is_there in synced if not manifest_is_there]
    after = [path for path, manifest_is_there in synced if manifest_is_there]
    way = ["generations/01J/2", "generations/01J", "generations", "."]
    assert set(before) == {
        *keys,
        "generations/01J/2/tiles_files/3",
        "generations/01J/2/tiles_files",
        *way,
    }
    assert before.index(keys[1]) < before.index("generations/01J/2/tiles_files/3")
    assert after == [MANIFEST, *way]
    assert folder_store.get(MANIFEST) == b"{}"


def test_a_manifest_without_anything_beside_it_can_be_put(
    folder_store: ObjectStore, synced: list[tuple[str, bool]]
) -> None:
    folder_store.put(MANIFEST, b"{}", "application/json")
    assert folder_store.get(MANIFEST) == b"{}"
    assert synced[-1] == (".", True)
