"""Results in an S3-compatible store: clients are sent there, and told when it is gone."""

from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import parse_qs, urlsplit

import grpc
import httpx
import pytest
from pydantic import SecretStr

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from service.settings import StoreSettings
from tests.s3_server import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Server, s3_server
from tests.service.api.played_worker import IMAGE, PREVIEW, THUMBNAIL
from tests.service.api.stack import Stack, running_stack


def _settings(server: S3Server) -> StoreSettings:
    server.create_bucket("pictures")
    return StoreSettings(
        url="s3://pictures/service",
        endpoint=server.endpoint,
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=SecretStr(SECRET_ACCESS_KEY),
        public_endpoint=server.endpoint,
    )


@pytest.fixture
def server_life() -> Iterator[ExitStack]:
    """Close it to stop the S3-compatible server."""
    with ExitStack() as life:
        yield life


@pytest.fixture
def s3_stack(redis_url: str, server_life: ExitStack) -> Iterator[Stack]:
    """A service that keeps its results in that server."""
    server = server_life.enter_context(s3_server())
    with running_stack(redis_url, _settings(server)) as running:
        yield running


def test_picture_comes_from_the_store_itself_until_that_is_gone(
    s3_stack: Stack, server_life: ExitStack
) -> None:
    generation_id = s3_stack.submit()
    s3_stack.worker.run(generation_id)
    path = f"/v1/generations/{generation_id}"

    redirect = s3_stack.http.get(f"{path}/image", headers={"Range": "bytes=0-9"})
    assert redirect.status_code == 307
    assert redirect.headers["cache-control"] == "no-store"
    part = httpx.get(redirect.headers["location"], headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, IMAGE[:10])
    assert s3_stack.http.get(f"{path}/image", follow_redirects=True).content == IMAGE
    assert s3_stack.http.head(f"{path}/image").headers["content-length"] == str(len(IMAGE))
    assert s3_stack.http.get(f"{path}/thumbnail").content == THUMBNAIL
    server_life.close()

    gone = s3_stack.http.get(f"{path}/image")
    with pytest.raises(grpc.RpcError) as caught:
        list(s3_stack.stub.DownloadImage(rpc.DownloadImageRequest(id=generation_id), timeout=30))

    assert gone.status_code == 503
    assert int(gone.headers["retry-after"]) > 0
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_tiles_come_from_the_store_itself_where_asked_to(redis_url: str) -> None:
    with (
        s3_server() as server,
        running_stack(redis_url, _settings(server), redirect_tiles=True) as stack,
    ):
        generation_id = stack.submit()
        stack.worker.run(generation_id)
        path = f"/v1/generations/{generation_id}"
        expected = {
            "tiles_files/9/0_0.png": b"tile zero",
            "previews/2": PREVIEW,
            "thumbnail": THUMBNAIL,
        }
        redirects = {name: stack.http.get(f"{path}/{name}") for name in expected}
        missing = stack.http.get(f"{path}/tiles_files/9/7_0.png")
        head = stack.http.head(f"{path}/thumbnail")

        assert {each.status_code for each in redirects.values()} == {307}
        assert redirects["tiles_files/9/0_0.png"].headers["access-control-allow-origin"] == "*"
        for name, data in expected.items():
            seconds = int(redirects[name].headers["cache-control"].rpartition("=")[2])
            location = urlsplit(redirects[name].headers["location"])
            assert 0 < seconds < int(parse_qs(location.query)["X-Amz-Expires"][0])
            assert httpx.get(location.geturl()).content == data
    assert missing.status_code == 404
    assert head.headers["content-length"] == str(len(THUMBNAIL))
