"""For which hosts requests are answered: a name that was made to lead here is refused."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.api.http.app import create_app
from service.settings import ApiSettings, StoreSettings
from service.storage.store import open_store
from tests.service.api.stack import use_cases


@pytest.fixture
def client(redis_url: str, tmp_path: Path) -> TestClient:
    """Of a service without keys."""
    cases, _ = use_cases(redis_url, open_store(StoreSettings(url=tmp_path.as_uri())))
    settings = ApiSettings(
        allowed_hosts=("pictures.example.com",), public_url="https://public.example.com/x"
    )
    return TestClient(create_app(cases, settings))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8000",
        "[::1]:8000",
        "192.168.1.7",
        "localhost:8000",
        "api:8000",
        "Pictures.Example.com.",
        "public.example.com:443",
        "x.localhost",
    ],
)
def test_addresses_local_names_and_allowed_ones_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "pictures.example.com.evil.example", "[::1"]
)
def test_any_other_name_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/v1/generations", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["reason"] == "UNKNOWN_HOST"
