"""Results as IIIF images, against libvips' own tree of tiles and the consortium's validator."""

import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image

from service.domain.artifacts import ArtifactKeys, TileFormat
from service.domain.generations.generation import Generation
from service.storage.deep_zoom import deep_zoom
from service.storage.encode import encode
from service.storage.metadata import DIGITAL_SOURCE_TYPE, encode_marked
from service.storage.pyramid import PyramidWriter
from tests.service.api.stack import Stack

RNG = np.random.default_rng(0)


def _noise(width: int, height: int) -> NDArray[np.uint8]:
    """Noise in which each pixel differs from its neighbours, so that no shift stays unseen."""
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def _begin(stack: Stack, pixels: NDArray[np.uint8], **fields: Any) -> Generation:
    height, width, _ = pixels.shape
    return stack.worker.start(stack.submit(width=width, height=height, **fields))


def _store_tiles(stack: Stack, generation: Generation, pixels: NDArray[np.uint8]) -> None:
    height, width, _ = pixels.shape
    pyramid = deep_zoom(width, height, 512, 1, generation.request.tile_format)
    keys = ArtifactKeys(generation.id, generation.attempt)
    with PyramidWriter(stack.store, keys, pyramid, lambda *_: None) as writer:
        writer.add(0, 0, pixels)
        writer.finish()


def _finished(stack: Stack, pixels: NDArray[np.uint8], **fields: Any) -> str:
    """Path of a finished generation's IIIF image."""
    generation = _begin(stack, pixels, **fields)
    _store_tiles(stack, generation, pixels)
    stack.worker.succeed(generation, encode_marked(pixels, "png", None))
    return f"/iiif/{generation.id}"


def _pixels(stack: Stack, path: str) -> NDArray[np.uint8]:
    response = stack.http.get(path)
    assert response.status_code == 200, (path, response.text)
    assert response.headers["access-control-allow-origin"] == "*"
    assert "immutable" in response.headers["cache-control"]
    return np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB"))


def _reference(pixels: NDArray[np.uint8], folder: Path) -> Path:
    """The tree of a static level-0 server, as libvips writes it."""
    height, width, _ = pixels.shape
    image = pyvips.Image.new_from_memory(pixels.tobytes(), width, height, 3, "uchar")
    image = image.copy(interpretation="srgb")
    image.dzsave(str(folder / "tree"), layout="iiif3", tile_size=512, suffix=".png", overlap=0)
    return folder / "tree"


@pytest.mark.parametrize("tile_format", ["png", "webp"])
@pytest.mark.parametrize(("width", "height"), [(1304, 904), (512, 512), (128, 1032)])
def test_every_tile_of_a_static_server_is_there_pixel_by_pixel(
    stack: Stack, tmp_path: Path, width: int, height: int, tile_format: TileFormat
) -> None:
    pixels = _noise(width, height)
    base = _finished(stack, pixels, tile_format=tile_format)
    tree = _reference(pixels, tmp_path)
    paths = sorted(path.relative_to(tree) for path in tree.rglob("*.png"))
    for path in paths:
        expected = np.asarray(Image.open(tree / path))
        assert np.array_equal(_pixels(stack, f"{base}/{path}"), expected), path
    info = stack.http.get(f"{base}/info.json").json()
    assert len(paths) == sum(
        -(-width // (512 * factor)) * -(-height // (512 * factor))
        for factor in info["tiles"][0]["scaleFactors"]
    )


def test_every_size_that_is_promised_is_there(stack: Stack) -> None:
    base = _finished(stack, _noise(1304, 904))
    info = stack.http.get(f"{base}/info.json").json()
    assert info["sizes"][-1] == {"width": 326, "height": 226}
    assert info["sizes"][0] == {"width": 1, "height": 1}
    for size in info["sizes"]:
        shown = _pixels(stack, f"{base}/full/{size['width']},{size['height']}/0/default.jpg")
        assert shown.shape == (size["height"], size["width"], 3)


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_the_full_picture_comes_in_the_format_asked_for(stack: Stack, extension: str) -> None:
    pixels = np.kron(_noise(20, 13), np.ones((48, 48, 1), np.uint8))
    base = _finished(stack, pixels)
    shown = _pixels(stack, f"{base}/full/max/0/default.{extension}")
    assert shown.shape == pixels.shape
    assert np.abs(shown.astype(int) - pixels).mean() < (3 if extension == "jpg" else 1e-9)
    content = stack.http.get(f"{base}/full/max/0/default.{extension}").content
    assert DIGITAL_SOURCE_TYPE.encode() in content
    asked = stack.http.get(f"{base}/0,0,960,624/960,624/0/default.{extension}")
    assert asked.content == content


def test_tiles_are_there_before_the_picture_is(stack: Stack) -> None:
    pixels = _noise(1304, 904)
    generation = _begin(stack, pixels)
    base = f"/iiif/{generation.id}"
    tile = f"{base}/512,512,512,392/512,392/0/default.png"
    assert stack.http.get(f"{base}/info.json").json()["width"] == 1304
    assert stack.http.get(tile).status_code == 404
    _store_tiles(stack, generation, pixels)
    assert np.array_equal(_pixels(stack, tile), pixels[512:, 512:1024])
    assert stack.http.get(f"{base}/full/max/0/default.jpg").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "full/full/0/default.jpg",
        "full/500,/0/default.jpg",
        "full/^max/0/default.jpg",
        "square/max/0/default.jpg",
        "0,0,512,512/256,256/0/default.jpg",
        "0,0,511,512/511,512/0/default.jpg",
        "1,0,512,512/512,512/0/default.jpg",
        "1536,0,512,512/512,512/0/default.jpg",
        "0,0,512,512/512,512/90/default.jpg",
        "0,0,512,512/512,512/0/gray.jpg",
        "0,0,512,512/512,512/0/default.gif",
        "0,0,512,512/512,512/0/default.avif",
    ],
)
def test_what_level_0_does_not_have_is_not_found(stack: Stack, path: str) -> None:
    base = _finished(stack, _noise(1304, 904))
    response = stack.http.get(f"{base}/{path}")
    assert response.status_code == 404
    assert response.json()["reason"] == "ARTIFACT_NOT_FOUND"


def test_a_tile_that_is_known_already_is_not_sent_again(stack: Stack) -> None:
    base = _finished(stack, _noise(1304, 904))
    tile = f"{base}/0,0,512,512/512,512/0/default"
    tags = {ext: stack.http.get(f"{tile}.{ext}").headers["etag"] for ext in ("png", "jpg", "webp")}
    assert len(set(tags.values())) == 3
    for extension, tag in tags.items():
        again = stack.http.get(f"{tile}.{extension}", headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")


def test_deep_zoom_may_be_shown_by_other_sites_too(stack: Stack) -> None:
    pixels = _noise(512, 512)
    generation = _begin(stack, pixels)
    _store_tiles(stack, generation, pixels)
    for path in ("tiles.dzi", "tiles_files/9/0_0.png"):
        response = stack.http.get(f"/v1/generations/{generation.id}/{path}")
        assert response.headers["access-control-allow-origin"] == "*"
    record = stack.http.get(f"/v1/generations/{generation.id}")
    assert record.json()["links"]["iiif"] == f"/iiif/{generation.id}/info.json"
    assert "access-control-allow-origin" not in record.headers


@pytest.fixture
def validator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The IIIF consortium's validator; libmagic, which only its PDF checks use, is left out."""
    monkeypatch.setitem(sys.modules, "magic", ModuleType("magic"))
    import iiif_validator.validator

    module: ModuleType = iiif_validator.validator
    return module


def _squares(validator: Any) -> NDArray[np.uint8]:
    """The picture that the validator expects: squares of 100 pixels in colours of its own."""
    colours = np.array(validator.ValidationInfo().colorInfo, np.uint8).transpose(1, 0, 2)
    return np.kron(colours, np.ones((100, 100, 1), np.uint8))


@pytest.mark.filterwarnings("ignore")
def test_the_iiif_validator_finds_nothing(stack: Stack, validator: Any) -> None:
    generation = _begin(stack, squares := _squares(validator))
    _store_tiles(stack, generation, squares)
    stack.worker.succeed(generation, encode(squares, "png"))
    suite = validator.TestSuite(validator.ValidationInfo())
    checks = [name for name, check in suite.list_tests("3.0").items() if check["level"] == 0]
    assert {"info_json", "id_squares", "format_jpg"} <= set(checks)
    # Of higher levels, what info.json promises as extra.
    extra = ["cors", "baseurl_redirect", "jsonld", "linkheader_profile", "format_png"]
    for name in [*checks, *extra, "id_error_random"]:
        server = urlsplit(stack.endpoints.http_url).netloc
        result = validator.ImageAPI(generation.id, server, "iiif", version="3.0", debug=False)
        suite.run_test(name, result)
        assert result.exception is None, (name, result.urls, str(result.exception))


def test_a_manifest_shows_a_picture_and_one_of_several_each(stack: Stack) -> None:
    first = _finished(stack, _noise(1304, 904), prompt="a fox", seed=7)
    second = _finished(stack, _noise(512, 512), prompt="a cat", metadata=False)
    ids = [each.rpartition("/")[2] for each in (first, second)]
    response = stack.http.get(f"{first}/manifest.json")
    assert response.headers["access-control-allow-origin"] == "*"
    assert "ld+json" in response.headers["content-type"]
    single = response.json()
    several = stack.http.get("/iiif/manifest.json", params={"id": ids}).json()

    assert single["label"] == {"none": ["a fox"]}
    (canvas,) = single["items"]
    (painting,) = canvas["items"][0]["items"]
    assert (painting["target"], painting["motivation"]) == (canvas["id"], "painting")
    assert (canvas["width"], canvas["height"]) == (1304, 904)
    assert {"label": {"en": ["Seed"]}, "value": {"none": ["7"]}} in canvas["metadata"]
    assert [each["id"] for each in several["items"]] == [
        f"{stack.endpoints.http_url}{each}/canvas" for each in (first, second)
    ]
    assert (several["items"][1]["label"], several["items"][1]["metadata"]) == (
        {"none": [ids[1]]},
        [],
    )
    for document in (single, several):
        assert stack.http.get(document["id"]).json() == document
        for image in (painting["body"], *document["thumbnail"]):
            shown = Image.open(io.BytesIO(stack.http.get(image["id"]).content))
            assert shown.size == (image["width"], image["height"])
            assert stack.http.get(f"{image['service'][0]['id']}/info.json").status_code == 200


def test_a_manifest_of_what_is_not_there_is_refused(stack: Stack) -> None:
    known = _finished(stack, _noise(128, 128)).rpartition("/")[2]
    assert stack.http.get("/iiif/manifest.json").status_code == 422
    answer = stack.http.get("/iiif/manifest.json", params={"id": [known, "none"]})
    assert (answer.status_code, answer.json()["reason"]) == (404, "GENERATION_NOT_FOUND")
