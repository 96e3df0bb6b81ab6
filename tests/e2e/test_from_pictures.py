"""From a picture to a picture, through real sockets, processes and the shipped model."""

import base64
import io
import json
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest
from PIL import Image, ImageDraw

from service.cli.embedded import Embedded
from tests.e2e.test_first_light import create, follow, image_bytes

SIDE = 256


@pytest.fixture
def http(service: Embedded) -> Iterator[httpx.Client]:
    """A client of the running service."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


def drawing() -> Image.Image:
    """A blue ball on white."""
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(picture).ellipse((60, 60, 200, 200), fill=(60, 90, 220))
    return picture


def sideways(picture: Image.Image) -> bytes:
    """A JPEG that lies on its side, and says so."""
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.save(stream, "JPEG", exif=exif, quality=98, subsampling=0)
    return stream.getvalue()


def with_hole(picture: Image.Image) -> bytes:
    """A PNG whose left half is transparent."""
    clear, stream = picture.convert("RGBA"), io.BytesIO()
    clear.putalpha(Image.new("L", picture.size, 255))
    clear.paste((0, 0, 0, 0), (0, 0, SIDE // 2, SIDE))
    clear.save(stream, "PNG")
    return stream.getvalue()


def test_an_upload_is_drawn_over_and_named_by_its_hash(http: httpx.Client) -> None:
    loads = http.get("/readyz").json()["workers"][0]["pipeline_loads"]
    files = {"file": ("ball.jpg", sideways(drawing()))}
    upload = http.post("/v1/uploads", files=files).json()
    assert (upload["width"], upload["height"]) == (SIDE, SIDE)

    distances = []
    for strength in (0.2, 0.9):
        record = create(http, image=upload["id"], strength=strength)
        assert (record["request"]["width"], record["request"]["height"]) == (SIDE, SIDE)
        events = follow(http, record["id"])
        assert events[-1][0] == "succeeded", events[-1]
        steps = [data["step"] for name, data in events if name == "step"]
        assert steps == [*range(1, int(6 * strength) + 1)]
        picture = Image.open(io.BytesIO(image_bytes(http, record["id"])))
        recipe = json.loads(picture.info["hidiffusion"])["request"]
        assert (recipe["image"], recipe["strength"]) == (upload["id"], strength)
        assert picture.info["parameters"].endswith(f"Denoising strength: {strength}")
        difference = np.asarray(picture, int) - np.asarray(drawing(), int)
        distances.append(np.abs(difference).mean())
    assert distances[0] < distances[1]
    assert http.get("/readyz").json()["workers"][0]["pipeline_loads"] == loads


def test_an_edit_by_the_openai_package_keeps_the_rest(service: Embedded) -> None:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
        answer = client.images.edit(
            image=with_hole(drawing()),
            prompt="a red apple",
            extra_body={"num_inference_steps": 4, "seed": 7},
        )
    assert answer.data
    data = base64.b64decode(answer.data[0].b64_json or "")
    edited, given = (np.asarray(each) for each in (Image.open(io.BytesIO(data)), drawing()))
    assert np.array_equal(edited[:, SIDE // 2 :], given[:, SIDE // 2 :])
    assert not np.array_equal(edited[:, : SIDE // 2], given[:, : SIDE // 2])
