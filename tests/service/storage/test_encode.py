"""Encoded pictures, read back by Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from service.storage.encode import encode, with_text

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def test_png_keeps_every_pixel() -> None:
    image = Image.open(io.BytesIO(encode(PIXELS, "png")))
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert np.array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize("picture_format", ["webp", "jpeg"])
def test_lossy_formats_stay_close(picture_format: str) -> None:
    smooth = np.tile(np.linspace(0, 255, 60, dtype=np.uint8)[None, :, None], (40, 1, 3))
    image = Image.open(io.BytesIO(encode(smooth, picture_format)))  # type: ignore[arg-type]
    assert image.format == picture_format.upper()
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - smooth).mean() < 3


def test_a_view_into_a_larger_picture_is_encoded_as_it_looks() -> None:
    view = PIXELS[5:25, 10:40]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode(view, "png")))), view)


def test_the_same_pixels_give_the_same_bytes() -> None:
    assert encode(PIXELS, "png") == encode(PIXELS.copy(), "png")


def test_text_of_every_language_travels_in_the_png() -> None:
    text = {"parameters": "a fox, 狐狸 🦊\nSteps: 3", "hidiffusion": '{"seed": 7}'}
    png = with_text(encode(PIXELS, "png"), text)
    Image.open(io.BytesIO(png)).verify()
    assert Image.open(io.BytesIO(png)).text == text  # type: ignore[attr-defined]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), PIXELS)


@pytest.mark.parametrize("keyword", ["", "k" * 80])
def test_a_keyword_of_the_wrong_length_is_refused(keyword: str) -> None:
    with pytest.raises(ValueError, match="keyword"):
        with_text(encode(PIXELS, "png"), {keyword: "value"})


@pytest.mark.parametrize(
    "pixels", [PIXELS[0], PIXELS[:, :, :1], PIXELS.astype(np.float32)], ids=["2-d", "grey", "float"]
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode(pixels, "png")
