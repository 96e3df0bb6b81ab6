"""The manifest of a result: written last, so that a result exists when its manifest does."""

from service.application.ports import ObjectStore
from service.domain.artifacts import ArtifactKeys, Manifest
from service.domain.errors import NotFound, StoreError

_MEDIA_TYPE = "application/json"


def write_manifest(store: ObjectStore, manifest: Manifest) -> None:
    """Store the manifest; everything it names must be stored already."""
    key = ArtifactKeys.beside(manifest.image.key).manifest
    store.put(key, manifest.model_dump_json(indent=1).encode(), _MEDIA_TYPE)


def read_manifest(store: ObjectStore, generation_id: str, attempt: int) -> Manifest:
    """Read the manifest of one attempt.

    Raises:
        NotFound: the attempt has no complete result.
        StoreError: what is stored is no manifest.
    """
    plain, spread = ArtifactKeys.either(generation_id, attempt)
    try:
        return _read(store, plain.manifest)
    except NotFound:
        return _read(store, spread.manifest)


def _read(store: ObjectStore, key: str) -> Manifest:
    try:
        return Manifest.model_validate_json(store.get(key))
    except ValueError as error:
        raise StoreError(f"{key!r} is no manifest: {error}") from error
