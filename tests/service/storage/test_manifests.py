"""Manifests, through a store."""

from datetime import UTC, datetime

import pytest

from service.application.ports import ObjectStore
from service.domain.artifacts import ArtifactKeys, ArtifactRef, Manifest
from service.domain.errors import NotFound, StoreError
from service.storage.deep_zoom import deep_zoom
from service.storage.manifests import read_manifest, write_manifest


def _manifest() -> Manifest:
    ref = ArtifactRef(key="generations/01J/2/image.png", media_type="image/png", bytes=3, sha256="")
    return Manifest(
        generation_id="01J",
        attempt=2,
        width=300,
        height=200,
        image=ref,
        thumbnail=ref,
        pyramid=deep_zoom(300, 200, 64, 1),
        recipe={"prompt": "狐狸", "times": {"decode": 0.5}},
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


def test_a_manifest_comes_back_equal(store: ObjectStore) -> None:
    write_manifest(store, _manifest())
    assert read_manifest(store, "01J", 2) == _manifest()
    assert store.head(ArtifactKeys("01J", 2).manifest).media_type == "application/json"


def test_another_attempt_has_none(memory: ObjectStore) -> None:
    write_manifest(memory, _manifest())
    with pytest.raises(NotFound):
        read_manifest(memory, "01J", 1)


def test_other_json_is_no_manifest(memory: ObjectStore) -> None:
    memory.put(ArtifactKeys("01J", 1).manifest, b'{"width": 3}', "application/json")
    with pytest.raises(StoreError, match=r"manifest\.json"):
        read_manifest(memory, "01J", 1)
