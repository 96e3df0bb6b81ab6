"""The kinds of object store, each real; Azure's emulator where `make stores` has fetched it."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.application.ports import ObjectStore
from service.settings import StoreSettings
from service.storage.store import open_store
from tests.s3_server import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Server, s3_server
from tests.service.storage import emulators

#: Folder of Azure's emulator.
TOOLS = os.environ.get("HIDIFFUSION_TEST_STORE_EMULATORS")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One S3-compatible server for the whole run."""
    with s3_server() as server:
        yield server


@pytest.fixture
def s3_settings(s3: S3Server) -> StoreSettings:
    """Settings of a bucket of the test's own, with a prefix."""
    bucket = f"bucket-{uuid.uuid4().hex}"
    s3.create_bucket(bucket)
    return StoreSettings(
        url=f"s3://{bucket}/some/prefix",
        endpoint=s3.endpoint,
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=SecretStr(SECRET_ACCESS_KEY),
        public_endpoint=s3.endpoint,
    )


@pytest.fixture(scope="session")
def azure_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreSettings]:
    """Settings of a container in Azurite, for the whole run."""
    with emulators.azure(Path(TOOLS or ""), tmp_path_factory.mktemp("azure")) as settings:
        yield settings


@pytest.fixture(params=["folder", "memory", "s3", *(["azure"] if TOOLS else [])])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind."""
    match request.param:
        case "folder":
            return open_store(StoreSettings(url=(tmp_path / "new" / "folder").as_uri()))
        case "memory":
            return open_store(StoreSettings(url="memory:///"))
        case "s3":
            return open_store(request.getfixturevalue("s3_settings"))
        case _:
            settings: StoreSettings = request.getfixturevalue("azure_settings")
            prefix = f"{settings.url}/{uuid.uuid4().hex}"
            return open_store(settings.model_copy(update={"url": prefix}))


@pytest.fixture
def memory() -> ObjectStore:
    """An empty store in memory."""
    return open_store(StoreSettings(url="memory:///"))
