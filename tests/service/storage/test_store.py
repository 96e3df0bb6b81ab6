"""One suite over every kind of store, buckets by real HTTP, and what only one of them has."""

import http.server
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from service.application.ports import ObjectStore
from service.domain.errors import NotFound, StoreError, Unavailable
from service.settings import StoreSettings
from service.storage.store import media_type_of, open_store
from tests.service.storage.conftest import TOOLS

KEY = "generations/01J/1/image.png"


def test_what_was_put_comes_back(store: ObjectStore) -> None:
    info = store.put(KEY, b"hello world", "image/png")
    assert store.get(KEY) == b"hello world"
    head = store.head(KEY)
    assert (head.key, head.size, head.media_type, head.etag) == (KEY, 11, "image/png", info.etag)
    assert abs(head.modified - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_last_put_wins_and_changes_the_strong_etag(store: ObjectStore) -> None:
    first = store.put(KEY, b"one", "image/png").etag
    second = store.put(KEY, b"two2", "image/png").etag
    assert store.get(KEY) == b"two2"
    assert first != second
    assert second.startswith('"')


def test_ranges_are_half_open(store: ObjectStore) -> None:
    store.put(KEY, bytes(range(100)), "image/png")
    assert store.get_range(KEY, 10, 14) == bytes([10, 11, 12, 13])
    assert store.get_range(KEY, 98, 200) == bytes([98, 99])


def test_an_absent_key_is_not_found(store: ObjectStore) -> None:
    store.put(KEY, b"", "image/png")
    for absent in ("generations/01J/1/other.png", "generations", "generations/01J"):
        with pytest.raises(NotFound, match=absent):
            store.get(absent)
        with pytest.raises(NotFound, match=absent):
            store.head(absent)
        with pytest.raises(NotFound, match=absent):
            store.get_range(absent, 0, 1)


def test_empty_and_large_objects(store: ObjectStore) -> None:
    large = bytes(range(256)) * (48 * 1024)  # 12 MiB: several parts on S3
    store.put("a/empty.json", b"", "application/json")
    store.put("a/large.png", large, "image/png")
    assert store.get("a/empty.json") == b""
    assert store.head("a/large.png").size == len(large)
    assert store.get("a/large.png") == large


def test_keys_begin_with_the_prefix_and_are_sorted(store: ObjectStore) -> None:
    for key in ("g/1/b.png", "g/1/a.png", "g/10/c.png", "h/x.png"):
        store.put(key, b".", "image/png")
    assert store.keys("g/1/") == ["g/1/a.png", "g/1/b.png"]
    assert store.keys("g/1") == ["g/1/a.png", "g/1/b.png", "g/10/c.png"]
    assert store.keys("g/1/a") == ["g/1/a.png"]
    assert store.keys("") == ["g/1/a.png", "g/1/b.png", "g/10/c.png", "h/x.png"]
    assert store.keys("nothing/") == []


def test_deleting_a_prefix_leaves_its_neighbours(store: ObjectStore) -> None:
    for key in ("g/1/manifest.json", "g/10/manifest.json"):
        store.put(key, b"{}", "application/json")
    store.put("g/1/a.png", b".", "image/png")
    assert store.delete_prefix("g/1/") == 2
    assert store.keys("") == ["g/10/manifest.json"]
    assert store.delete_prefix("g/1/") == 0


def test_two_deletions_at_once_both_succeed(store: ObjectStore) -> None:
    for number in range(40):
        store.put(f"g/1/{number}.png", b".", "image/png")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.delete_prefix, ["g/1/"] * 4))
    assert store.keys("g/") == []


def test_a_media_type_that_contradicts_the_key_is_refused(store: ObjectStore) -> None:
    with pytest.raises(ValueError, match=r"image/webp"):
        store.put(KEY, b".", "image/webp")
    assert store.keys("") == []


def test_keys_cannot_climb_out(store: ObjectStore) -> None:
    for key in ("../outside.png", "a/../../outside.png", "a//b.png"):
        with pytest.raises(ValueError, match="path"):
            store.put(key, b".", "image/png")


def test_a_reader_never_sees_half_a_write(store: ObjectStore) -> None:
    contents = [bytes([number]) * 300_000 for number in range(2)]
    store.put(KEY, contents[0], "image/png")
    seen = set()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(
            lambda: [store.put(KEY, contents[n % 2], "image/png") for n in range(20)]
        )
        while not (writing.done() and seen):
            data = store.get(KEY)
            assert data in contents
            seen.add(data[0])
    writing.result()


def test_ping_answers(store: ObjectStore) -> None:
    store.ping()


def test_only_buckets_presign(store: ObjectStore, request: pytest.FixtureRequest) -> None:
    store.put(KEY, b"picture", "image/png")
    url = store.presign(KEY, 60)
    if {"folder", "memory"} & {*request.node.callspec.params.values()}:
        assert url is None
        return
    assert url is not None
    response = httpx.get(url, headers={"Range": "bytes=1-3"})
    assert (response.content, response.headers["content-type"]) == (b"ict", "image/png")


def test_s3_offers_no_urls_unless_clients_can_reach_it(s3_settings: StoreSettings) -> None:
    store = open_store(s3_settings.model_copy(update={"public_endpoint": None}))
    assert store.presign(KEY, 60) is None


def test_presigned_urls_use_the_public_endpoint(s3_settings: StoreSettings) -> None:
    public = s3_settings.model_copy(update={"public_endpoint": "https://pictures.example"})
    url = open_store(public).presign(KEY, 60)
    assert url is not None
    assert url.startswith("https://pictures.example/bucket-")
    assert "/some/prefix/generations/01J/1/image.png?" in url


def test_a_second_process_finds_what_the_first_put(tmp_path: Path) -> None:
    settings = StoreSettings(url=tmp_path.as_uri())
    open_store(settings).put(KEY, b"kept", "image/png")
    assert open_store(settings).get(KEY) == b"kept"
    assert (tmp_path / KEY).read_bytes() == b"kept"


def test_a_folder_keeps_no_empty_folders(tmp_path: Path) -> None:
    store = open_store(StoreSettings(url=tmp_path.as_uri()))
    store.put(KEY, b".", "image/png")
    store.delete_prefix("generations/01J/")
    assert list(tmp_path.rglob("*.png")) == []
    assert not (tmp_path / "generations" / "01J").exists()


def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    store = open_store(StoreSettings(url=folder.as_uri()))
    folder.rmdir()
    with pytest.raises(Unavailable, match="mounted"):
        store.ping()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="file"):
        open_store(StoreSettings(url=(tmp_path / "file" / "folder").as_uri()))


def test_a_write_onto_a_folder_is_refused(tmp_path: Path) -> None:
    store = open_store(StoreSettings(url=tmp_path.as_uri()))
    store.put("a/b.png", b".", "image/png")
    with pytest.raises(StoreError, match=r"a/b\.png/c\.png"):
        store.put("a/b.png/c.png", b".", "image/png")


@pytest.mark.parametrize("url", ["ftp://host/x", "file://host/x", "s3:///x", "pictures", "file:"])
def test_an_unknown_url_names_the_remedy(url: str) -> None:
    with pytest.raises(ValueError, match=r"HIDIFFUSION_STORE__URL"):
        open_store(StoreSettings(url=url))


def test_settings_of_another_kind_of_store_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="azure_account is not set"):
        StoreSettings(url="az://pictures/results")
    with pytest.raises(ValueError, match="access_key_id is for s3:// and the URL is gs://"):
        StoreSettings(url="gs://pictures", access_key_id="key")
    gone = StoreSettings(url="gs://pictures", google_credentials_file=tmp_path / "gone.json")
    with pytest.raises(ValueError, match="HIDIFFUSION_STORE__GOOGLE_CREDENTIALS_FILE"):
        open_store(gone)
    (tmp_path / "key").write_text("\n")
    empty = StoreSettings(url="az://p", azure_account="a", azure_key_file=tmp_path / "key")
    with pytest.raises(ValueError, match=r"HIDIFFUSION_STORE__AZURE_KEY_FILE.*is empty"):
        open_store(empty)


@pytest.mark.skipif(not TOOLS, reason="Azure's emulator is fetched by `make stores`")
def test_a_missing_container_is_an_error_for_good(azure_settings: StoreSettings) -> None:
    store = open_store(azure_settings.model_copy(update={"url": "az://missing-container"}))
    with pytest.raises(StoreError, match="bucket"):
        store.ping()


def test_google_is_asked_for_by_its_own_settings(tmp_path: Path) -> None:
    private = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "client_email": "service@example.test",
        "private_key_id": "1",
        "private_key": private.decode(),
    }
    (tmp_path / "key.json").write_text(json.dumps(account))
    settings = StoreSettings(
        url="gs://pictures/some/prefix",
        google_credentials_file=tmp_path / "key.json",
        public_endpoint="https://storage.googleapis.com",
    )
    url = open_store(settings).presign(KEY, 60)
    assert url is not None
    assert url.startswith("https://storage.googleapis.com/pictures/some/prefix/generations/01J/1/")
    assert "service%40example.test" in url


def test_a_missing_bucket_is_an_error_for_good(s3_settings: StoreSettings) -> None:
    store = open_store(s3_settings.model_copy(update={"url": "s3://missing-bucket"}))
    for attempt in (store.ping, lambda: store.put(KEY, b".", "image/png")):
        with pytest.raises(StoreError, match="bucket"):
            attempt()


def test_a_dead_endpoint_is_unavailable(s3_settings: StoreSettings) -> None:
    dead = s3_settings.model_copy(update={"endpoint": "http://127.0.0.1:9"})
    with pytest.raises(Unavailable) as caught:
        open_store(dead).ping()
    assert caught.value.dependency == "store"


@contextmanager
def _server(answers: list[int]) -> Iterator[tuple[str, list[str]]]:
    """An HTTP server that gives one status after the other, the last one for ever."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = answers[min(len(requests), len(answers) - 1)]
            requests.append(self.command)
            self.send_response(status)
            self.send_header("ETag", '"tag"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = _answer  # noqa: N815  (names that http.server looks up)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


def test_a_store_that_fails_for_a_moment_is_asked_again(s3_settings: StoreSettings) -> None:
    with _server([503, 500, 200]) as (endpoint, requests):
        store = open_store(s3_settings.model_copy(update={"endpoint": endpoint}))
        assert store.put(KEY, b"data", "image/png").etag == '"tag"'
    assert requests == ["PUT"] * 3


@pytest.mark.parametrize(
    ("status", "error", "asked"), [(503, Unavailable, 5), (403, StoreError, 1)]
)
def test_retries_are_bounded(
    s3_settings: StoreSettings, status: int, error: type[Exception], asked: int
) -> None:
    with _server([status]) as (endpoint, requests):
        store = open_store(s3_settings.model_copy(update={"endpoint": endpoint}))
        with pytest.raises(error):
            store.get(KEY)
    assert len(requests) == asked


def test_media_types_follow_the_extension() -> None:
    assert [media_type_of(f"a.b/c.{name}") for name in ("png", "webp", "jpg", "json", "bin")] == [
        "image/png",
        "image/webp",
        "image/jpeg",
        "application/json",
        "application/octet-stream",
    ]
