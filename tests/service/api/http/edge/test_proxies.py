"""Behind a proxy: whose word is believed, and where clients are sent."""

from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from service.api.http.app import create_app
from service.api.serve import front_ends
from service.settings import ApiSettings, StoreSettings
from service.storage.store import open_store
from tests.service.api.played_worker import PlayedWorker
from tests.service.api.stack import serving, use_cases

FORWARDED = {"x-forwarded-proto": "https", "host": "pictures.example"}


@pytest.fixture
def store(tmp_path: Path) -> StoreSettings:
    return StoreSettings(url=tmp_path.as_uri())


@pytest.mark.parametrize(
    ("trusted", "scheme"),
    [(("127.0.0.0/8",), "https"), (("10.0.0.0/8",), "http")],
)
def test_a_scheme_is_believed_of_trusted_proxies_alone(
    redis_url: str, store: StoreSettings, trusted: tuple[str, ...], scheme: str
) -> None:
    opened = open_store(store)
    cases, records = use_cases(redis_url, opened)
    settings = ApiSettings(
        http_port=0, grpc_port=0, trusted_proxies=trusted, allowed_hosts=("pictures.example",)
    )
    with (
        serving(settings, cases, None) as endpoints,
        httpx.Client(base_url=endpoints.http_url) as http,
    ):
        accepted = http.post("/v1/generations", json={"prompt": "a fox"}, headers=FORWARDED)
        generation_id = accepted.json()["id"]
        PlayedWorker(records, opened).run(generation_id)
        info = http.get(f"/iiif/{generation_id}/info.json", headers=FORWARDED).json()
    assert info["id"] == f"{scheme}://pictures.example/iiif/{generation_id}"


@pytest.mark.parametrize("passed_on", [True, False], ids=["prefix passed on", "prefix cut off"])
def test_the_public_url_wins_and_its_path_is_kept(
    redis_url: str, store: StoreSettings, passed_on: bool
) -> None:
    opened = open_store(store)
    cases, records = use_cases(redis_url, opened)
    settings = ApiSettings(public_url="https://studio.example/pictures/")
    before = "/pictures" if passed_on else ""
    with TestClient(create_app(cases, settings)) as http:
        accepted = http.post(f"{before}/v1/generations", json={"prompt": "a fox"})
        assert accepted.status_code == 202
        generation_id = accepted.json()["id"]
        path = f"/pictures/v1/generations/{generation_id}"
        assert accepted.headers["location"] == path
        PlayedWorker(records, opened).run(generation_id)
        document = http.get(f"{before}/v1/generations/{generation_id}").json()
        info = http.get(f"{before}/iiif/{generation_id}/info.json").json()
    assert document["links"]["image"] == f"{path}/image"
    assert info["id"] == f"https://studio.example/pictures/iiif/{generation_id}"


async def test_a_proxy_that_is_none_is_named(redis_url: str, store: StoreSettings) -> None:
    cases, _ = use_cases(redis_url, open_store(store))
    settings = ApiSettings(http_port=0, grpc_port=0, trusted_proxies=("nginx",))
    with pytest.raises(ValueError, match="nginx"):
        async with front_ends(settings, cases):
            pass
