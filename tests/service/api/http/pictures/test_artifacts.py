"""Artifacts over HTTP: whole, in part, conditionally, and as a Deep Zoom pyramid."""

from xml.etree import ElementTree

import pytest

from tests.service.api.played_worker import IMAGE, THUMBNAIL
from tests.service.api.stack import Stack


@pytest.fixture
def finished(stack: Stack) -> str:
    """Path of a generation that succeeded."""
    generation_id = stack.submit()
    stack.worker.run(generation_id)
    return f"/v1/generations/{generation_id}"


def test_image_is_whole_and_may_be_kept_for_ever(stack: Stack, finished: str) -> None:
    response = stack.http.get(f"{finished}/image")

    assert response.status_code == 200
    assert response.content == IMAGE
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-length"] == str(len(IMAGE))
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["etag"].startswith('"')
    assert "immutable" in response.headers["cache-control"]


def test_head_tells_the_length_without_the_bytes(stack: Stack, finished: str) -> None:
    response = stack.http.head(f"{finished}/image")

    assert response.status_code == 200
    assert response.content == b""
    assert response.headers["content-length"] == str(len(IMAGE))


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=255990-", 255990, 256000),
        ("bytes=-10", 255990, 256000),
        ("bytes=255990-999999", 255990, 256000),
        ("bytes=-999999", 0, 256000),
    ],
)
def test_range_is_served_as_asked(
    stack: Stack, finished: str, asked: str, start: int, end: int
) -> None:
    response = stack.http.get(f"{finished}/image", headers={"Range": asked})

    assert response.status_code == 206
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/256000"
    assert response.content == IMAGE[start:end]


@pytest.mark.parametrize("asked", ["bytes=0-1,5-9", "lines=0-9", "bytes=9-1", "bytes=-", "nine"])
def test_range_that_is_not_understood_gets_the_whole(
    stack: Stack, finished: str, asked: str
) -> None:
    response = stack.http.get(f"{finished}/image", headers={"Range": asked})

    assert response.status_code == 200
    assert response.content == IMAGE


@pytest.mark.parametrize("asked", ["bytes=256000-", "bytes=-0"])
def test_range_beyond_the_end_is_refused(stack: Stack, finished: str, asked: str) -> None:
    response = stack.http.get(f"{finished}/image", headers={"Range": asked})

    assert response.status_code == 416
    assert response.headers["content-range"] == "bytes */256000"
    assert response.json()["type"] == "/problems/range-not-satisfiable"


def test_known_image_is_not_sent_again(stack: Stack, finished: str) -> None:
    etag = stack.http.get(f"{finished}/image").headers["etag"]

    for known in (etag, f'W/{etag}, "other"', "*"):
        response = stack.http.get(f"{finished}/image", headers={"If-None-Match": known})
        assert response.status_code == 304
        assert response.content == b""
        assert response.headers["etag"] == etag
    other = stack.http.get(f"{finished}/image", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_range_holds_only_for_the_version_it_was_meant_for(stack: Stack, finished: str) -> None:
    whole = stack.http.get(f"{finished}/image")
    validators = {
        whole.headers["etag"]: 206,
        whole.headers["last-modified"]: 206,
        '"other"': 200,
        "Mon, 01 Jan 2024 00:00:00 GMT": 200,
    }

    for validator, status in validators.items():
        headers = {"Range": "bytes=0-9", "If-Range": validator}
        assert stack.http.get(f"{finished}/image", headers=headers).status_code == status


def test_thumbnail_and_preview_are_jpeg(stack: Stack, finished: str) -> None:
    thumbnail = stack.http.get(f"{finished}/thumbnail")
    preview = stack.http.get(f"{finished}/previews/2")

    assert thumbnail.content == THUMBNAIL
    assert preview.content == b"preview"
    assert thumbnail.headers["content-type"] == preview.headers["content-type"] == "image/jpeg"


def test_tile_is_missing_until_it_is_stored(stack: Stack) -> None:
    generation_id = stack.submit()
    generation = stack.worker.start(generation_id)
    path = f"/v1/generations/{generation_id}/tiles_files/9/0_0.png"

    before = stack.http.get(path)
    stack.worker.tile(generation, 0, b"tile zero")
    after = stack.http.get(path)

    assert before.status_code == 404
    assert before.json()["type"] == "/problems/artifact-not-found"
    assert "(its status is running)" in before.json()["detail"]
    assert "cache-control" not in before.headers
    assert after.content == b"tile zero"
    assert "immutable" in after.headers["cache-control"]


def test_image_is_missing_until_success(stack: Stack) -> None:
    generation_id = stack.submit()

    for name in ("image", "thumbnail", "tiles.dzi", "previews/1"):
        response = stack.http.get(f"/v1/generations/{generation_id}/{name}")
        assert response.status_code == 404
        assert response.json()["type"] == "/problems/artifact-not-found"


def test_descriptor_tells_the_geometry_while_the_picture_is_made(stack: Stack) -> None:
    generation_id = stack.submit(width=1024, height=768, output_format="jpeg")
    stack.worker.start(generation_id)

    response = stack.http.get(f"/v1/generations/{generation_id}/tiles.dzi")

    image = ElementTree.fromstring(response.content)
    namespace = "{http://schemas.microsoft.com/deepzoom/2008}"
    assert image.tag == f"{namespace}Image"
    assert image.attrib == {"TileSize": "512", "Overlap": "1", "Format": "png"}
    size = image.find(f"{namespace}Size")
    assert size is not None
    assert size.attrib == {"Width": "1024", "Height": "768"}


@pytest.mark.parametrize(
    "name", ["tiles_files/9/0_0.exe", "tiles_files/9/5_0.png", "previews/7", "nothing"]
)
def test_what_was_never_stored_is_a_404_problem(stack: Stack, finished: str, name: str) -> None:
    response = stack.http.get(f"{finished}/{name}")

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_tile_address_takes_whole_numbers_only(stack: Stack, finished: str) -> None:
    for name in ("tiles_files/x/0_0.png", "tiles_files/-1/0_0.png", f"tiles_files/{2**70}/0_0.png"):
        response = stack.http.get(f"{finished}/{name}")
        assert response.status_code == 422
        assert response.json()["errors"][0]["field"] == "level"


def test_without_tiles_the_picture_alone_is_served(stack: Stack) -> None:
    generation_id = stack.submit(tiles=False)
    stack.worker.succeed(stack.worker.start(generation_id))
    path = f"/v1/generations/{generation_id}"

    record = stack.http.get(path).json()
    assert record["links"]["tiles"] is record["links"]["iiif"] is None
    assert record["result"]["pyramid"] is None
    assert stack.http.get(record["links"]["image"]).content == IMAGE
    tiles = (
        f"{path}/tiles.dzi",
        f"{path}/tiles_files/0/0_0.png",
        f"/iiif/{generation_id}/info.json",
    )
    for address in tiles:
        problem = stack.http.get(address)
        assert problem.status_code == 404
        assert "fetch the whole image" in problem.json()["detail"]


def test_what_a_worker_with_spread_keys_stores_is_found_and_purged(stack: Stack) -> None:
    generation_id, path = stack.submit(), "/v1/generations"
    stack.worker.spread_keys = True
    try:
        generation = stack.worker.start(generation_id)
        stack.worker.preview(generation, 2, b"a preview")
        stack.worker.tile(generation, 0, b"a tile")
        stored = stack.worker.store.keys(f"generations/{generation_id[-2:]}/{generation_id}/")
        wanted = ("previews/2", "tiles_files/9/0_0.png")
        begun = [stack.http.get(f"{path}/{generation_id}/{each}").content for each in wanted]
        stack.worker.succeed(generation)
    finally:
        stack.worker.spread_keys = False
    assert len(stored) == 2
    assert begun == [b"a preview", b"a tile"]
    done = [stack.http.get(f"{path}/{generation_id}/{each}").content for each in (*wanted, "image")]
    assert done == [*begun, IMAGE]
    purged = stack.http.delete(f"{path}/{generation_id}", params={"purge": True})
    assert purged.is_success
    assert [key for key in stack.worker.store.keys("generations/") if generation_id in key] == []
